//! docs/scale-out.md shows this program and what it depends on.

use std::path::Path;

/// A file of the repository.
fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of the page in this language.
fn blocks<'page>(page: &'page str, language: &str) -> Vec<&'page str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

#[test]
fn the_programs_of_the_page_are_those_that_are_tested() {
    let page = text("docs/scale-out.md");
    for path in ["engines/ballista/src/lib.rs", "engines/ballista/src/main.rs", "engines/s3/src/main.rs"] {
        assert!(blocks(&page, "rust").contains(&text(path).as_str()), "docs/scale-out.md has no block that is {path}");
    }
}

#[test]
fn the_versions_of_the_page_are_those_that_are_tested() {
    let (page, manifest) = (text("docs/scale-out.md"), text("engines/ballista/Cargo.toml"));
    let blocks = blocks(&page, "toml");
    let dependencies = blocks.iter().find_map(|block| block.split_once("[dependencies]\n")).expect("a manifest in docs/scale-out.md").1;
    let mut compared = 0;
    for line in dependencies.lines().filter(|line| !line.is_empty() && !line.starts_with("deepring")) {
        assert!(manifest.lines().any(|tested| tested == line), "engines/ballista/Cargo.toml has no line {line}");
        compared += 1;
    }
    assert!(compared >= 7, "{compared} dependencies were compared");
}
