"""Networks, model bundles and where bundles are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.models.bundle import (
        Bundle,
        load_bundle,
        save_bundle,
    )
    from dvfb_stream.models.bundle_description import BundleDescription, read_description
    from dvfb_stream.models.networks import AnnotationNetwork, build_network
    from dvfb_stream.models.registry import all_bundle_folders, bundle_folders, find_bundle, user_folder

__all__ = [
    "AnnotationNetwork",
    "Bundle",
    "BundleDescription",
    "all_bundle_folders",
    "build_network",
    "bundle_folders",
    "find_bundle",
    "load_bundle",
    "read_description",
    "save_bundle",
    "user_folder",
]

__getattr__ = lazy_names(__name__, __file__)
