# SPDX-License-Identifier: Apache-2.0
"""Uploads to the hub of models."""

from pathlib import Path

from wavlm_lightning.shipped import extras


def upload(folder: Path, name: str, *, private: bool = False) -> str:
    """Upload a folder to where the user is logged in, and return its address.

    Args:
        folder: What is uploaded.
        name: Of the repository; it is made if it is not there.
        private: Whether only its owner sees it.

    Raises:
        ModuleNotFoundError: without huggingface_hub.
        OSError: if nobody is logged in, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"push_to_hub needs huggingface_hub: {extras('hf')}") from error
    api = HfApi()
    try:
        api.whoami()
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder)
    except LocalTokenNotFoundError as error:
        raise PermissionError("push_to_hub: nobody is logged in here: hf auth login") from error
    except (HfHubHTTPError, OSError) as error:
        raise OSError(f"push_to_hub={name}: {error}") from error
    return str(address)
