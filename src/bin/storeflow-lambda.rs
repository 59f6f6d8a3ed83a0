//! The query API as an AWS Lambda function; see [`storeflow::serve::lambda`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    storeflow::serve::lambda::main()
}
