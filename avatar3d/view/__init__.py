"""An avatar in the browser or a notebook: sliders, motion, any camera. Needs the extra `view`."""

from avatar3d.view.puppet import Puppet
from avatar3d.view.stage import View, ViewSettings

__all__ = ["Puppet", "View", "ViewSettings"]
