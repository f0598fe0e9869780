"""Moved: see heads.py, look.py, overlay.py, png.py and strip.py."""

from mmattn.maps.heads import layer_head_grid as layer_head_grid
from mmattn.maps.look import Look as Look
from mmattn.maps.overlay import overlay as overlay
from mmattn.maps.png import save_png as save_png
from mmattn.maps.strip import strip as strip
