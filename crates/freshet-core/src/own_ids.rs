//! The ids that a sink took its checkpoint over with, or tried to: by them it tells its own former take-overs, whose
//! answer may have been lost, from another process's.
//!
//! Not kept anywhere but in memory: another process is another owner. Invariant: the id that owned last is never
//! forgotten, however often taking over fails afterwards, since the checkpoint may be its own still.

use crate::gtid::Uuid;

/// Ids that are remembered: a target may come back from a backup of a few take-overs ago.
const IDS_MAX: usize = 64;

/// The ids of one sink.
#[derive(Debug, Default)]
pub struct OwnIds {
    ids: Vec<Uuid>,
    owned_as: Option<Uuid>,
}

impl OwnIds {
    /// Those that may own the checkpoint; none before it was owned once, and whoever owns it then is somebody else.
    pub fn owners(&self) -> &[Uuid] {
        if self.owned_as.is_some() { &self.ids } else { &[] }
    }

    /// A take-over was tried with this id; it may be the owner although no answer said so.
    pub fn tried(&mut self, id: Uuid) {
        self.ids.push(id);
        if self.ids.len() > IDS_MAX
            && let Some(oldest) = self.ids.iter().position(|id| Some(*id) != self.owned_as)
        {
            self.ids.remove(oldest);
        }
    }

    /// The id owns the checkpoint.
    pub fn owns(&mut self, id: Uuid) {
        self.owned_as = Some(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t11_the_id_that_owned_last_is_not_forgotten() {
        let mut ids = OwnIds::default();
        ids.tried(Uuid([2; 16]));
        assert!(ids.owners().is_empty(), "nothing was owned yet");
        let ours = Uuid([1; 16]);
        ids.tried(ours);
        ids.owns(ours);
        (0..3 * IDS_MAX).for_each(|i| ids.tried(Uuid([i as u8; 16])));
        assert!(ids.owners().contains(&ours) && ids.owners().len() == IDS_MAX);
    }
}
