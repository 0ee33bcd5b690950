//! Initialization: from memory, and from tensors of other types.

use crate::harness::{Rng, bytes, directory, engine, saved, source};
use crate::model::{Model, memory, open};
use deepring_tensors::convert::convert_into;
use deepring_tensors::swap::{Depth, Group, OptimizerOptions, OptimizerSwapper};
use deepring_tensors::{DType, Safetensors, SaveOptions};

fn groups() -> Vec<Group> {
    let adam = |name: &str, numel| Group::new(name, numel).states(["m", "v"]);
    vec![adam("matrix", 700 * 801), adam("vector", 12_345), adam("kept", 999).resident(true), adam("scalar", 1), adam("empty", 0)]
}

fn swapper(engine: &deepring::Engine, place: &std::path::Path) -> OptimizerSwapper {
    let options = OptimizerOptions::new(groups()).depth(Depth::Groups(1)).memory(memory(&groups(), 1));
    open(engine, place, options)
}

#[test]
fn tensors_of_narrower_types_become_parts() {
    let (engine, place, files) = (engine(), directory(), directory());
    let shapes: [&[u64]; 5] = [&[700, 801], &[12_345], &[3, 333], &[], &[4, 0]];
    let names = ["matrix", "vector", "kept", "scalar", "empty"];
    let dtypes = [DType::BF16, DType::F16, DType::F64, DType::F32, DType::F8E4M3];
    let tensors: Vec<_> = names.iter().zip(shapes).zip(dtypes).map(|((name, shape), dtype)| source(name, dtype, shape)).collect();
    let path = saved(&engine, files.path(), "model.safetensors", &tensors, SaveOptions::new());
    let model_file = Safetensors::open(&engine, &path).wait().expect("a model");
    let swapper = swapper(&engine, place.path());
    let mut model = Model::zeros(groups());
    for (nth, tensor) in tensors.iter().enumerate() {
        let (name, dtype) = (names[nth], tensor.declared.dtype);
        if dtype != DType::F32 {
            let refused = swapper.initialize_from(name, &model_file, [("param", name)], false).wait().expect_err("another type");
            assert_eq!(refused.code(), "ERR_DEEPRING_INVALID");
        }
        swapper.initialize_from(name, &model_file, [("param", name), ("v", name)], true).wait().expect("initialized");
        let mut expected = vec![0; model.parts[nth][0].len()];
        convert_into(dtype, &tensor.data, DType::F32, &mut expected).expect("converted");
        model.parts[nth][0].clone_from(&expected);
        model.parts[nth][2] = expected;
    }
    model.check(&swapper);
    assert!(swapper.stats().used_max <= swapper.stats().memory);
    swapper.close().wait().expect("closed");
    model.check(&crate::filled::swapper(&engine, place.path()));
}

#[test]
fn sizes_names_and_types_that_do_not_fit_are_refused_before_anything_is_written() {
    let (engine, place, files) = (engine(), directory(), directory());
    let tensors = [source("vector", DType::F32, &[12_344]), source("ints", DType::I32, &[12_345])];
    let path = saved(&engine, files.path(), "model.safetensors", &tensors, SaveOptions::new());
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let swapper = swapper(&engine, place.path());
    let code = |part: &str, len: usize| swapper.initialize("vector", [(part, vec![1u8; len])]).wait().expect_err("refused").code();
    assert_eq!(code("param", 4), "ERR_DEEPRING_INVALID");
    assert_eq!(code("gradient", 4), "ERR_DEEPRING_NOT_FOUND");
    assert_eq!(code("w", 49_380), "ERR_DEEPRING_NOT_FOUND");
    let twice = swapper.initialize("vector", [("m", vec![1u8; 49_380]), ("m", vec![1u8; 49_380])]).wait().expect_err("twice");
    assert_eq!(twice.code(), "ERR_DEEPRING_INVALID");
    let from = |tensor: &str| swapper.initialize_from("vector", &model, [("param", tensor)], true).wait().expect_err("refused").code();
    assert_eq!((from("vector"), from("ints"), from("none")), {
        ("ERR_DEEPRING_INVALID".into(), "ERR_DEEPRING_INVALID".into(), "ERR_DEEPRING_NOT_FOUND".into())
    });
    Model::zeros(groups()).check(&swapper);
}

/// A job that is dropped in the middle leaves a group that says so, until it is initialized again.
#[test]
fn an_initialization_that_is_given_up_is_not_forgotten() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let (engine, place, mut rng) = (engine(), directory(), Rng::new());
    let swapper = swapper(&engine, place.path());
    let data = bytes(700 * 801 * 4, 5);
    let mut given_up = 0;
    for _ in 0..20 {
        let mut job = swapper.initialize("matrix", [("param", data.clone())]);
        let mut polls = 1 + rng.below(3);
        while polls > 0 && std::pin::pin!(&mut job).poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            polls -= 1;
        }
        drop(job);
        let mut step = swapper.step_over(["matrix"]).expect("a step");
        let found = step.wait_next().expect("a group").map(|mut lease| lease.parts().param.to_vec());
        drop(step);
        match found {
            Ok(param) => assert!(param == data || param.iter().all(|byte| *byte == 0)),
            Err(error) => {
                given_up += 1;
                assert!(error.to_string().contains("in part"), "{error}");
                assert_eq!(swapper.flush().wait().expect_err("not whole").to_string(), error.to_string());
                let part = swapper.initialize("matrix", [("param", data.clone())]).wait().expect_err("only a part");
                assert_eq!(part.to_string(), error.to_string());
                let states = || vec![0u8; data.len()];
                swapper.initialize("matrix", [("param", data.clone()), ("m", states()), ("v", states())]).wait().expect("all");
                swapper.flush().wait().expect("flushed");
            }
        }
    }
    crate::harness::say(&format!("{given_up} were given up in the middle"));
}
