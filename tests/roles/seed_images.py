"""Bring the platform's images to a site's registry."""

import sys

from dpp.lab.access import write_access
from dpp.lab.image import BaseImage
from dpp.lab.platform_images import PlatformImages
from dpp.lab.progress import Reporter
from dpp.model.environment import Environment
from dpp.model.folders import Folders

folders, reporter = Folders.current(), Reporter(quiet=True)
write_access(folders, Environment.load("lab"))  # the names that connections use
PlatformImages(folders, BaseImage(reporter).ensure(), reporter).seed(sys.argv[1])
