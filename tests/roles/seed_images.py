"""Bring the platform's images to a site's registry."""

import sys

from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage
from dpp.build.platform_images import PlatformImages
from dpp.lab.access import write_access
from dpp.model.environment import Environment
from dpp.model.folders import Folders

folders, reporter = Folders.current(), Reporter(quiet=True)
write_access(folders, Environment.load("lab"))  # the names that connections use
PlatformImages(folders, BaseImage(reporter).ensure(), reporter).seed(sys.argv[1])
