//! A Ballista cluster over a bucket: what an executor has read stays on its drive. One program, three roles.

use cluster::Outcome;
use datafusion::object_store::aws::AmazonS3Builder;
use deepring::Engine;
use deepring_tier::v013::TieredStore;
use deepring_tier::{Tier, Validate};
use std::io::Write;
use std::sync::Arc;
use url::Url;

#[tokio::main]
async fn main() -> Outcome {
    // The bucket, and who asks: `AWS_BUCKET_NAME`, `AWS_REGION`, `AWS_ACCESS_KEY_ID` and what else the SDKs of AWS take.
    let remote = Arc::new(AmazonS3Builder::from_env().build()?);
    let bucket = Url::parse(&format!("s3://{}", std::env::var("AWS_BUCKET_NAME")?))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["scheduler", port] => cluster::scheduler(port.parse()?, bucket, remote).await,
        ["executor", to, port, work_dir] => {
            // Beside the work folder, which Ballista cleans up. Tables are written once, under names of their own.
            let tier = Tier::builder(&Engine::builder().build()?).validate("*.parquet", Validate::Immutable);
            let tier = tier.open(format!("{work_dir}-tier"), 1 << 30)?;
            let store = Arc::new(TieredStore::new(&tier, remote, bucket.as_str()));
            cluster::executor(to.parse()?, port.parse()?, work_dir, bucket, store).await?;
            tier.flush().await;
            Ok(writeln!(std::io::stderr(), "{:?}", tier.stats())?)
        }
        ["client", to, ref statements @ ..] => cluster::client(to.parse()?, statements, &bucket, remote).await,
        _ => Err("scheduler PORT, executor SCHEDULER_PORT PORT WORK_DIR, or client SCHEDULER_PORT STATEMENT...".into()),
    }
}
