//! The first and only process of the lab's virtual machine; see `deepring_trials::lab::guest`.

fn main() {
    deepring_trials::lab::guest::main();
}
