"""An exported folder on a Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssl_lt.core.disk.urls import reason
from ssl_lt.core.errors import ConfigError
from ssl_lt.models import onnx
from ssl_lt.models.export import CLASSIFIER

# What not every export has: an older one in the repository would be taken for part of the new one.
_MAY_BE_MISSING = (CLASSIFIER, onnx.MODEL)
_LOGIN = "`hf auth login`, or HF_TOKEN in the environment"


def check_repository(name: str) -> None:
    """Refuses what no hub takes as ORG/NAME.

    Raises:
        ConfigError: names the flag.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ConfigError(f"--push: {reason(error)}") from error
    if "/" not in name:
        raise ConfigError(f"--push: {name} does not say whose: ORG/NAME or USER/NAME")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Uploads a folder in one commit; a repository that is not there is made.

    Args:
        folder: that was exported.
        repository: ORG/NAME.
        private: make it private; refuses one that is public.

    Returns:
        Its address.

    Raises:
        ConfigError: there is no token or no connection, or the hub refuses; says that the folder
            stays.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        if get_token() is None:
            raise ConfigError(f"there is no token of the hub: {_LOGIN}")
        return _upload(api, folder, repository, private=private)
    except HfHubHTTPError as error:
        why = _refusal(error)
    # Clients of HTTP and of storage raise what they like where there is no network.
    except Exception as error:
        why = reason(error)
    place = f"{api.endpoint}/{repository}"
    raise ConfigError(f"--push: not pushed to {place}: {why}; the export is in {folder}")


def _upload(api: Any, folder: Path, repository: str, *, private: bool) -> str:
    # None, not False: some organisations make all of theirs private.
    url = str(api.create_repo(repository, private=private or None, exist_ok=True))
    if private and not api.model_info(repository).private:
        raise ConfigError("--private: the repository is there already, and is public")
    api.upload_folder(
        repo_id=repository,
        folder_path=folder,
        commit_message="Export of ssl-lt",
        delete_patterns=list(_MAY_BE_MISSING),
    )
    return url


def _refusal(error: Any) -> str:
    """What the hub said, in one line."""
    status = error.response.status_code
    said = " ".join((error.server_message or "").split())
    if status == 401:
        return f"the hub does not accept the token ({_LOGIN})"
    if status == 403:
        return f"the token may not write there{f' ({said})' if said else ''}"
    return said or reason(error)
