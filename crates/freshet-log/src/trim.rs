//! What may be forgotten: whole segments that every sink has applied, by age, and by space once the log is large.

use crate::error::{LogError, Result};
use crate::files::{remove, segment_path, sync_dir};
use crate::shared::{Shared, modified};
use freshet_core::Offset;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

/// Removes what may go of the segments before `before`; how many bytes.
pub(crate) fn trim(shared: &Shared, before: Offset) -> Result<u64> {
    let _one_at_a_time = shared.trimming.lock().unwrap_or_else(PoisonError::into_inner);
    let durable = shared.durable().mark.next;
    if before > durable {
        return Err(LogError::Broken(format!(
            "A trim before offset {before} is beyond the durable mark, {durable}"
        )));
    }
    let keep = first_kept(shared, before, SystemTime::now())?;
    if keep <= shared.trimmed().next {
        return Ok(0);
    }
    // First the word, then the deed: a crash between them leaves segments that the next start removes.
    shared.update_meta(|meta| meta.trimmed = keep)?;
    let mut state = shared.state();
    let mut freed_bytes = 0;
    while let Some(oldest) = state.segments.front().filter(|oldest| oldest.first < keep) {
        remove(&segment_path(&shared.dir, oldest.first))?;
        freed_bytes += oldest.bytes;
        state.segments.pop_front();
    }
    drop(state);
    sync_dir(&shared.dir)?;
    assert!(shared.trimmed().next <= before, "trimmed <= applied");
    shared.space.send_modify(|space| *space = space.saturating_sub(freed_bytes));
    tracing::debug!(dir = %shared.dir.display(), trimmed = keep.0, freed_bytes, "The log was trimmed");
    Ok(freed_bytes)
}

/// First offset of the oldest segment that stays: the log begins at a commit, so segments inside one transaction go
/// together. Applied segments go once they are old enough, or the log is over half of its bound (1.5).
fn first_kept(shared: &Shared, before: Offset, now: SystemTime) -> Result<Offset> {
    let options = &shared.options;
    let retain = Duration::from_millis(options.log_retain_ms_min);
    let segments = shared.state().segments.clone();
    let mut bytes = *shared.space.borrow();
    let mut keep = shared.trimmed().next;
    let mut all_may_go = true;
    for (oldest, following) in segments.iter().zip(segments.iter().skip(1)) {
        let large = bytes > options.log_bytes_max / 2;
        let age = now.duration_since(modified(&shared.dir, oldest.first)?).unwrap_or_default();
        all_may_go &= large || age >= retain;
        bytes = bytes.saturating_sub(oldest.bytes);
        if following.first > before || !all_may_go {
            break;
        }
        if !following.inside {
            keep = following.first;
        }
    }
    Ok(keep)
}
