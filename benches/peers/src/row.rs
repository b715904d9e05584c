//! A row of the table.

use crate::measure::{Bench, Subject};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Floor,
    Ours,
    Peer,
}

pub(crate) struct Row {
    pub group: Group,
    /// The crate, or the part.
    pub name: String,
    /// What it is set to.
    pub setting: String,
    pub closed: Option<Box<dyn Bench>>,
    /// The same, open.
    pub rejecting: Option<Box<dyn Bench>>,
    /// Whether the chart shows it.
    pub charted: bool,
    /// Whether failfast's coarse clock must be running.
    pub coarse_clock: bool,
    /// A footnote.
    pub note: Option<&'static str>,
}

impl Row {
    /// Without anything to call: its note says why.
    pub(crate) fn empty(group: Group, name: impl Into<String>, setting: impl Into<String>) -> Self {
        let (name, setting) = (name.into(), setting.into());
        Self {
            group,
            name,
            setting,
            closed: None,
            rejecting: None,
            charted: group != Group::Floor,
            coarse_clock: false,
            note: None,
        }
    }

    pub(crate) fn new<B, L, F>(
        group: Group,
        name: impl Into<String>,
        setting: impl Into<String>,
        closed: Subject<B, L, F>,
    ) -> Self
    where
        B: Sync + 'static,
        L: 'static,
        F: Fn(&B, &mut L, u64) -> bool + Sync + 'static,
    {
        Self { closed: Some(Box::new(closed)), ..Self::empty(group, name, setting) }
    }

    pub(crate) fn rejecting<B, L, F>(mut self, open: Subject<B, L, F>) -> Self
    where
        B: Sync + 'static,
        L: 'static,
        F: Fn(&B, &mut L, u64) -> bool + Sync + 'static,
    {
        self.rejecting = Some(Box::new(open));
        self
    }

    pub(crate) fn coarse(mut self) -> Self {
        self.coarse_clock = true;
        self
    }

    pub(crate) fn uncharted(mut self) -> Self {
        self.charted = false;
        self
    }

    pub(crate) fn note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }

    pub(crate) fn label(&self) -> String {
        if self.setting.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, self.setting) }
    }
}
