"""Which store of blobs the settings name."""

from __future__ import annotations

from shared.blobs import BlobStore
from shared.folder_blobs import FolderBlobs
from shared.settings import SettingError, Settings


def open_blobs(settings: Settings, *, patience_s: float | None = None) -> BlobStore:
    """The store that the settings name. Nothing is connected yet.

    patience_s: how long to wait for a store that says nothing; when left out, as long as background work can. Raises
    `SettingError` unless the settings name either a folder or a bucket.
    """
    place = settings.blobs_place
    if bool(settings.blobs_folder) == bool(place):
        both = "are both set" if place else "are both unset"
        raise SettingError(
            f"REELMAP_BLOBS_FOLDER and REELMAP_BLOBS_BUCKET {both}; set one of them: pictures live in a folder or in "
            "a bucket"
        )
    if place is None:
        assert settings.blobs_folder
        return FolderBlobs(settings.blobs_folder)
    # Only here, because boto3 takes a while to import and most of its memory stays.
    from shared.s3 import S3
    from shared.s3_blobs import S3Blobs

    if patience_s is None:
        return S3Blobs(S3(settings), place)
    return S3Blobs(S3(settings, read_timeout_s=patience_s, attempts=2), place)
