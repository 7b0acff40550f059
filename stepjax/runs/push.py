"""An exported folder to the Hugging Face hub."""

from pathlib import Path

from stepjax.data.hub import quiet_hub
from stepjax.errors import UserError

OPTION = "config.export.push"


def check_name(name: str) -> None:
    """UserError where `name` is not one that a repository can have, `owner/name`."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        if "/" not in name:
            raise HFValidationError("no owner")
        validate_repo_id(name)
    except HFValidationError:
        raise UserError(f"{OPTION}={name}: name the repository as owner/name") from None


def push(folder: Path, name: str, *, private: bool) -> str:
    """Uploads a folder to the repository `name`, which is made where there is none; returns its address.

    UserError, in one line, where the hub cannot be reached or does not take it; the folder stays.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        with quiet_hub():
            address = str(api.create_repo(name, private=private, exist_ok=True))
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Export by stepjax")
    except Exception as error:  # network, authorisation, names: any error of the client
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{OPTION}={name}: the hub does not take it ({first[:200]}); {folder} is whole: log in with `hf auth "
            f"login` if need be, then `hf upload {name} {folder}`"
        ) from None
    return address
