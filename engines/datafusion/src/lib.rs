//! DataFusion over two stores: see `tests/tpch.rs` for the answers and `examples/figures.rs` for the times.
