//! The beginning of a dataset, for runs at a limited speed: a day at 60 times real time takes 24 minutes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::config::Job;
use crate::runtime::replay::open;
use crate::runtime::workers::Tuning;
use crate::source::dataset::{DatasetError, Packing, PartitionFile};
use crate::source::lines::Lines;

/// Copies the lines of the first `span` milliseconds of log time, unpacked, to partition files in `folder`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn slice(job: &Job, files: &[PartitionFile], span: u64, folder: &Path) -> Result<Vec<PartitionFile>, DatasetError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| DatasetError::Unreadable { path, source }
    };
    let mut partitions = open(job, files, &Tuning::default())?;
    let start = partitions.iter().map(|partition| partition.clock().now()).filter(|&clock| clock > 0).min().unwrap_or(0);
    let mut slices = Vec::with_capacity(files.len());
    for (partition, file) in partitions.iter_mut().zip(files) {
        let path: PathBuf = folder.join(&file.topic).join(format!("{}.ndjson", file.partition));
        let mut lines = Lines::open(file, 512 << 10).map_err(unreadable(&file.path))?;
        std::fs::create_dir_all(folder.join(&file.topic)).map_err(unreadable(folder))?;
        let mut out = BufWriter::new(File::create(&path).map_err(unreadable(&path))?);
        let mut bytes = 0;
        // A record is a line, so both go on in step.
        while partition.next_record()?.is_some_and(|placed| placed.order.stamp <= start + span) {
            let Some(line) = lines.next_line().map_err(unreadable(&file.path))? else { break };
            out.write_all(line.bytes).and_then(|()| out.write_all(b"\n")).map_err(unreadable(&path))?;
            bytes += line.bytes.len() as u64 + 1;
        }
        out.flush().map_err(unreadable(&path))?;
        slices.push(PartitionFile { path, packing: Packing::Plain, bytes, ..file.clone() });
    }
    Ok(slices)
}
