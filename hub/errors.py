"""What can go wrong in the world while answering, each error with the way out.

HubError
├── SettingsError          a setting is wrong
├── WorkspaceError         no such workspace, or none yet
├── EvaluationError        questions to measure with cannot be read, or figures not be drawn
├── MeasuringError         a context cannot be measured, or what was measured not be kept
├── ChangeError            a change cannot be read: no such revision, a diff too large
├── ModelFileError         a model's file is damaged, unknown, or cannot be written
├── NotInCatalogue         no model of that name is known, or not so quantised
├── UnknownHardware        words describe no card or memory that is known
├── SnapshotError          the state of a prefix cannot be kept or taken back
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


class HubError(Exception):
    """One sentence for the user and a hint that says the way out."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(HubError):
    """A setting is wrong."""


class WorkspaceError(HubError):
    """No such workspace, or none yet."""


class EvaluationError(HubError):
    """Questions to measure with cannot be read, or their figures cannot be drawn."""


class MeasuringError(HubError):
    """A context cannot be measured, or what was measured not be kept."""


class ChangeError(HubError):
    """A change cannot be read: no such revision, a diff too large."""


class SnapshotError(HubError):
    """The state of a prefix that a model has read cannot be kept on disk, or taken back from there."""


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
