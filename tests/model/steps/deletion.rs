//! Deleted organizations.

use triggerd::commands::{Applied, Command, DeleteOrg, ForgetOrg, ForgetOrgOutcome};
use triggerd::model::id::OrgNo;
use triggerd::model::retention::Cutoffs;

use super::World;
use crate::naive::Deletion;

impl World {
    /// Deletes the organization, with accidents in between, until nothing of it is left.
    pub(super) fn delete_org(&mut self, org: OrgNo) -> Result<(), String> {
        self.submit_one(org, |world, org| Some(DeleteOrg { org, at: world.now() }.into()))?;
        if self.deletion(org) != Deletion::UnderWay {
            return Ok(()); // its key was refused
        }
        self.check_org(org)?;
        while self.naive.org(org).is_some_and(|org| !org.events.is_empty()) {
            self.expire_by(org, Cutoffs::ALL)?;
            self.accident(org)?;
            self.check_org(org)?;
        }
        while self.forget_step(org)? {
            if self.random.one_in(20) {
                self.system.restart_after_kill();
            }
        }
        self.naive.forget_org(org);
        self.audit()
    }

    fn deletion(&self, org: OrgNo) -> Deletion {
        self.naive.org(org).map_or(Deletion::NotAsked, |org| org.deletion)
    }

    /// Forgets a part of the rest. Returns false when nothing is left.
    fn forget_step(&mut self, org: OrgNo) -> Result<bool, String> {
        let command = Command::ForgetOrg(ForgetOrg { org });
        let outcomes = self.system.submit(vec![vec![command]]).concat();
        match outcomes.as_slice() {
            [Ok(Applied::ForgetOrg(ForgetOrgOutcome::More))] => Ok(true),
            [Ok(Applied::ForgetOrg(ForgetOrgOutcome::Forgotten))] => Ok(false),
            other => Err(format!("outcome {other:?} of the forgetting of {org:?}")),
        }
    }

    /// Checks that no record of a deleted organization is left in the journal.
    pub(super) fn check_forgotten(&self) -> Result<(), String> {
        for command in self.system.commands()? {
            let org = command.org().or_else(|| command.made_org());
            if org.is_some_and(|org| self.deletion(org) == Deletion::Over) {
                return Err(format!("a record of a deleted organization is left: {command:?}"));
            }
        }
        Ok(())
    }
}
