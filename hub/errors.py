"""What can go wrong in the world while answering, each error with the way out.

HubError
├── SettingsError          a setting is wrong
├── WorkspaceError         no such workspace, or none yet
├── Forbidden              it is seen, but this may not be done there
├── EvaluationError        questions to measure with cannot be read, or figures not be drawn
├── MeasuringError         a context cannot be measured, or what was measured not be kept
├── ChangeError            a change cannot be read: no such revision, a diff too large
├── ModelFileError         a model's file is damaged, unknown, or cannot be written
├── NotInCatalogue         no model of that name is known, or not so quantised
├── UnknownHardware        words describe no card or memory that is known
├── FollowError            the trees of a data folder cannot be followed
├── HookError              hooks of git cannot be put in or taken out
├── BackupError            a backup cannot be written, or is not to be trusted
├── SnapshotError          the state of a prefix cannot be kept or taken back
├── AccessError            keys, grants or approvals cannot be as asked for
│   └── UnknownAccess          no such key or approval
├── KnowledgeError         what is to be remembered cannot be kept
│   ├── UnknownSession         no such session, or it has ended
│   └── UnknownEntry           no such entry of what is known for good
├── JobError               a job cannot be as asked for
│   ├── TaskError              its arguments make no sense
│   ├── UnknownJob             no such job
│   └── QueueFull              too many wait
├── ServerError            the server that runs on the data folder did not answer as it should
└── BackendError           the language model did not answer as it should
    ├── BackendUnavailable     it is not there: not running, not installed
    ├── ModelMissing           it runs, but not this model
    ├── BackendBusy            its queue is full
    ├── UnsupportedRequest     it cannot do what was asked for; nothing was sent
    ├── PrefixUnusable         the kept state of a prompt cannot be taken back
    ├── PromptTooLong          the prompt does not fit its window; nothing was sent or everything was refused
    └── BrokenStream           it stopped half-way
        └── PromptShortened        it answered about less than it was sent
"""

import re

_WHO_ASKS = re.compile(r"(?<=://)[^/@\s]{1,300}@")


class HubError(Exception):
    """One sentence for the user and a hint that says the way out."""

    def __init__(self, message: str, hint: str = "") -> None:
        """What stands before the host of an address, such as a password, is left out of both."""
        self.message = _WHO_ASKS.sub("", message)
        self.hint = _WHO_ASKS.sub("", hint)
        super().__init__(self.message)


class SettingsError(HubError):
    """A setting is wrong."""


class WorkspaceError(HubError):
    """No such workspace, or none yet."""


class Forbidden(HubError):
    """What is asked about may be seen by whoever asks, but this may not be done with it."""


class EvaluationError(HubError):
    """Questions to measure with cannot be read, or their figures cannot be drawn."""


class MeasuringError(HubError):
    """A context cannot be measured, or what was measured not be kept."""


class ChangeError(HubError):
    """A change cannot be read: no such revision, a diff too large."""


class FollowError(HubError):
    """The trees of a data folder cannot be followed: another process does it, or none of those named is indexed."""


class HookError(HubError):
    """Hooks of git cannot be put in or taken out: no repository, one that is odd, a folder that cannot be written."""


class BackupError(HubError):
    """A backup cannot be written, or not be trusted."""


class SnapshotError(HubError):
    """The state of a prefix that a model has read cannot be kept on disk, or taken back from there."""


class AccessError(HubError):
    """Keys, grants or approvals cannot be as asked for: no such scope, a key that was revoked before."""


class UnknownAccess(AccessError):
    """No such key or approval, or none that the caller may know of."""


class KnowledgeError(HubError):
    """What is to be remembered cannot be kept: it is empty, too long, or too much."""


class UnknownSession(KnowledgeError):
    """No such session, one of another key, or one that has ended: the same text for all of them."""


class UnknownEntry(KnowledgeError):
    """No such entry or batch, or one of a workspace that is not seen: the same text for all of them."""


class JobError(HubError):
    """A job cannot be as asked for: its state does not allow it."""


class TaskError(JobError):
    """What a job is to do makes no sense."""


class UnknownJob(JobError):
    """No such job, or none that the caller may know of."""


class QueueFull(JobError):
    """Too many jobs wait; the same may be taken later."""


class ServerError(HubError):
    """The server that runs on the data folder went away, or answered what makes no sense."""


class ModelFileError(HubError):
    """A model's file is damaged, not whole, of a kind that is not known, or cannot be written."""


class NotInCatalogue(HubError):
    """A model, or a quantisation of it, that the catalogue does not have."""


class UnknownHardware(HubError):
    """Words that describe no card or memory that is known."""


class BackendError(HubError):
    """The language model did not answer as it should."""


class BackendUnavailable(BackendError):
    """The backend is not running or not installed."""


class ModelMissing(BackendError):
    """The backend runs but does not have the model."""


class BackendBusy(BackendError):
    """The backend's queue is full; the same request may work later."""


class UnsupportedRequest(BackendError):
    """What was asked for is beyond the backend's capabilities, or makes no sense. Nothing was written."""


class PrefixUnusable(BackendError):
    """The kept state of a prompt cannot be taken back: missing, damaged, of another model, too large."""


class PromptTooLong(BackendError):
    """The prompt does not fit the context window. It was refused, never shortened."""


class BrokenStream(BackendError):
    """The answer stopped half-way."""


class PromptShortened(BrokenStream):
    """The answer was made from less than the prompt, so it is none."""
