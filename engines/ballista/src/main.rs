//! A Ballista cluster over files of one host: one program, three roles.

use cluster::Outcome;
use deepring::Engine;
use deepring_object_store::DeepringStore;
use std::io::Write;
use std::sync::Arc;
use url::Url;

#[tokio::main]
async fn main() -> Outcome {
    // One engine and one store for the process: everything that it opens under `file:///` goes through them.
    let files = Url::parse("file:///")?;
    let store = Arc::new(DeepringStore::builder(&Engine::builder().build()?).build()?);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["scheduler", port] => cluster::scheduler(port.parse()?, files, store).await,
        ["executor", to, port, work_dir] => {
            cluster::executor(to.parse()?, port.parse()?, work_dir, files, store.clone()).await?;
            Ok(writeln!(std::io::stderr(), "{:?}", store.stats())?)
        }
        ["client", to, ref statements @ ..] => cluster::client(to.parse()?, statements, &files, store).await,
        _ => Err("scheduler PORT, executor SCHEDULER_PORT PORT WORK_DIR, or client SCHEDULER_PORT STATEMENT...".into()),
    }
}
