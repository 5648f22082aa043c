"""Labels of other formats, converted once into the layout of COCO."""

from data.conversion.coco import check_output, split_images, write_coco
from data.conversion.findings import Findings
from data.conversion.voc_xml import read_voc_xml
from data.conversion.yolo import read_yolo

__all__ = [
    "Findings",
    "check_output",
    "read_voc_xml",
    "read_yolo",
    "split_images",
    "write_coco",
]
