// Uses all crates as crates.io would serve them: writes a file, a model and an object into the given directory, and reads them
// back.

use deepring::{Completed, Engine, OpenOptions};
use deepring_object_store::DeepringStore;
use deepring_object_store::v014::object_store::{ObjectStoreExt, path::Path};
use deepring_tensors::{DType, Declared, SaveOptions, Safetensors, Source, save};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::path::PathBuf::from(std::env::args_os().nth(1).ok_or("which directory?")?);
    let path = folder.join(format!("crates-{}", std::process::id()));
    let engine = Engine::builder().build()?;
    let file = engine.open(&path, OpenOptions::new().read(true).write(true).create(true))?;
    file.write_at(vec![42u8; 1 << 20], 0).wait().result?;
    let Completed { buf, result } = file.read_exact_at(vec![0u8; 1 << 20], 0).wait();
    let receipt = result?;
    let buf = buf.ok_or("the engine kept the buffer")?;
    assert!(buf.iter().all(|byte| *byte == 42));
    drop(file);

    let declared = Declared { name: "weights".into(), dtype: DType::U8, shape: vec![1 << 20] };
    save(&engine, &path, vec![Source { declared, data: buf }], SaveOptions::new()).wait()?;
    let model = Safetensors::open(&engine, &path).wait()?;
    let loaded = model.load(&model.table().all()).wait()?;
    let weights = loaded.get("weights").ok_or("the model has no weights")?;
    assert!(weights.bytes().iter().all(|byte| *byte == 42));
    std::fs::remove_file(&path)?;

    let store = DeepringStore::builder(&engine).prefix(&folder).build()?;
    let object = Path::from(format!("object-{}", std::process::id()));
    pollster::block_on(async {
        store.put(&object, vec![42u8; 1 << 20].into()).await?;
        let bytes = store.get_range(&object, 1000..2000).await?;
        assert!(bytes.len() == 1000 && bytes.iter().all(|byte| *byte == 42));
        store.delete(&object).await
    })?;
    println!("the bytes came back, by {:?}", receipt.backend);
    Ok(())
}
