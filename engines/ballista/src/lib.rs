//! The three roles of a Ballista cluster, each with a store of its own for the URLs that queries name.

use ballista::prelude::SessionContextExt;
use ballista_core::utils::default_session_builder;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::scheduler_process::start_server;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::object_store::ObjectStore;
use datafusion::prelude::SessionContext;
use std::error::Error;
use std::sync::Arc;
use url::Url;

/// What a role ends with.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Plans queries and gives tasks to executors, until it is told to end.
///
/// # Errors
/// Fails if it cannot listen on this port of loopback.
pub async fn scheduler(port: u16, urls: Url, store: Arc<dyn ObjectStore>) -> Outcome {
    let config = SchedulerConfig {
        bind_port: port,
        task_distribution: TaskDistributionPolicy::RoundRobin,
        override_session_builder: Some(Arc::new(move |config| {
            let state = default_session_builder(config)?;
            state.runtime_env().register_object_store(&urls, store.clone());
            Ok(state)
        })),
        // Without these and the heartbeat below, a query waits three minutes for an executor that is dead.
        executor_timeout_seconds: 10,
        expire_dead_executor_interval_seconds: 2,
        no_executors_grace_period_seconds: 10,
        ..Default::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await?;
    Ok(start_server(cluster, ([127, 0, 0, 1], port).into(), Arc::new(config)).await?)
}

/// Runs tasks of the scheduler at the port `to`, until it is told to end. It listens on `port` and the next one.
///
/// # Errors
/// Fails if no scheduler answers, or it cannot listen.
pub async fn executor(to: u16, port: u16, work_dir: &str, urls: Url, store: Arc<dyn ObjectStore>) -> Outcome {
    let config = ExecutorProcessConfig {
        scheduler_port: to,
        scheduler_connect_timeout_seconds: 30,
        port,
        grpc_port: port + 1,
        work_dir: Some(work_dir.to_owned()),
        executor_heartbeat_interval_seconds: 2,
        // Called for every session.
        override_runtime_producer: Some(Arc::new(move |_| {
            let runtime = RuntimeEnvBuilder::new().build_arc()?;
            runtime.register_object_store(&urls, store.clone());
            Ok(runtime)
        })),
        ..Default::default()
    };
    Ok(start_executor_process(Arc::new(config)).await?)
}

/// Sends statements to the scheduler at this port, and prints what answers them.
///
/// # Errors
/// Fails if no scheduler answers, or with the first statement that fails.
pub async fn client(to: u16, statements: &[&str], urls: &Url, store: Arc<dyn ObjectStore>) -> Outcome {
    let session = SessionContext::remote(&format!("df://localhost:{to}")).await?;
    session.register_object_store(urls, store);
    for statement in statements {
        session.sql(statement).await?.show().await?;
    }
    Ok(())
}
