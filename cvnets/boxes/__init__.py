"""The geometry of boxes: coding, matching, and what a detector gives. Losses may use it, too."""
