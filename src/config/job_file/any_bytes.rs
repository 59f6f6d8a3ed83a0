//! Whatever a file holds, there is an answer.
