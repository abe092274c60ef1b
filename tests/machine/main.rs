//! The rules of the machine as text: `tests/machine/*.txt`, each a story of `when` lines and the decisions that must
//! follow, exactly those and in that order.
//!
//! Between two `when` lines an ideal outside carries out whatever the agenda wants, at once and without faults, so that
//! only decisions remain to be told. The words of a story are listed in `tests/machine/README.md`.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]
#![expect(unreachable_pub, reason = "the modules of one test program")]

mod histories;
mod outside;
mod reference;
mod story;
mod things;

use std::fs;
use std::path::Path;

#[test]
fn every_story_ends_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine");
    let mut stories: Vec<_> =
        fs::read_dir(&folder).expect("the folder can be read").map(|file| file.expect("a file").path()).collect();
    stories.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    stories.sort();
    assert!(stories.len() >= 10, "{} stories in {}", stories.len(), folder.display());
    let mut wrong = Vec::new();
    for file in &stories {
        let text = fs::read_to_string(file).expect("a story can be read");
        if let Err(difference) = story::tell(&text) {
            wrong.push(format!("{}: {difference}", file.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} stories end otherwise:\n{}", wrong.len(), stories.len(), wrong.join("\n"));
}

#[test]
fn a_story_that_tells_something_else_is_found_out() {
    let told =
        "pool ngw-j 512-513 203.0.113.1\nwhen pod a 172.16.0.1 ports=80\nthen allocated a 203.0.113.1 512->80/tcp\n";
    assert_eq!(story::tell(told), Ok(()));
    for (right, wrong) in
        [("512->80", "513->80"), ("allocated a", "waits a"), ("then allocated a 203.0.113.1 512->80/tcp\n", "")]
    {
        assert!(story::tell(&told.replace(right, wrong)).is_err(), "{wrong:?} instead of {right:?}");
    }
}
