"""`common`, `stats` and `ema`: the options of the engine itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from config.options import OPERATIONAL, Options


class CommonOptions(Options):
    """`common`: the run, its folder, its numbers."""

    release: Literal["auto", "main", "v0.3", "v0.2", "v0.1", "mobilevitv3-v1", "mobilevitv3-v2"] = (
        Field(
            "auto",
            description="the official release that the recipe was written for, whose defaults count "
            "where they differ; auto: as its keys tell",
            json_schema_extra=OPERATIONAL,
        )
    )
    seed: int = Field(0, ge=0, description="seed of everything random in the run")
    results_loc: str = Field(
        "results", description="folder of all runs", json_schema_extra=OPERATIONAL
    )
    run_label: str = Field(
        "run_1", description="sub-folder of this run", json_schema_extra=OPERATIONAL
    )
    plugins: tuple[str, ...] = Field(
        (),
        description="files or modules with your own components",
        json_schema_extra=OPERATIONAL,
    )
    observers: tuple[str, ...] = Field(
        (), description="your own observers, by name", json_schema_extra=OPERATIONAL
    )
    auto_resume: bool = Field(
        False,
        description="continue the run that is in the folder already",
        json_schema_extra=OPERATIONAL,
    )
    resume: str | None = Field(
        None, description="training state to continue from", json_schema_extra=OPERATIONAL
    )
    resume_changes: Literal["refuse", "allow"] = Field(
        "refuse",
        description="what to do when the recipe of a resumed run has changed",
        json_schema_extra=OPERATIONAL,
    )
    finetune: str | None = Field(
        None, description="weights of the whole model to start from", json_schema_extra=OPERATIONAL
    )
    finetune_ema: str | None = Field(
        None,
        description="weights that the average starts from; null: those of the model",
        json_schema_extra=OPERATIONAL,
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto, cpu, cuda, cuda:N or mps",
        json_schema_extra=OPERATIONAL,
    )
    mixed_precision: bool = Field(False, description="autocast to mixed_precision_dtype")
    mixed_precision_dtype: Literal["float16", "bfloat16"] = Field(
        "float16", description="type of autocast; float16 needs a GPU and scales the loss"
    )
    parameter_dtype: Literal["float32", "float64"] = Field(
        "float32", description="type of parameters; float64 for exact comparisons"
    )
    deterministic: bool = Field(False, description="bit-equal results on a GPU, more slowly")
    channels_last: bool = Field(True, description="memory order of images and weights")
    accum_freq: int = Field(1, ge=1, description="micro-batches per process and optimizer step")
    accum_after_epoch: int = Field(0, ge=-1, description="accumulate from this epoch on")
    batch_policy: Literal["report", "solve", "refuse"] = Field(
        "report",
        description="when processes x accum_freq x batch is not expected.effective_batch: say so, or "
        "solve for the micro-batches per step that make it, or stop",
    )
    grad_clip: float | None = Field(None, gt=0, description="largest 2-norm of the gradient")
    max_nonfinite_steps: int = Field(
        10, ge=1, description="training stops after so many steps in a row without a finite loss"
    )
    log_freq: int = Field(
        100, ge=1, description="optimizer steps between log lines", json_schema_extra=OPERATIONAL
    )
    save_interval_freq: int = Field(
        0,
        ge=0,
        description="save the state every so many optimizer steps; 0: by time only",
        json_schema_extra=OPERATIONAL,
    )
    save_interval_minutes: float = Field(
        15.0,
        gt=0,
        description="save the state at least so often, minutes",
        json_schema_extra=OPERATIONAL,
    )
    k_best_checkpoints: int = Field(
        5,
        ge=0,
        description="so many of the best weights are kept as checkpoint_score_*.pt, and averaged in "
        "checkpoint_avg.pt; 0 or 1: none",
        json_schema_extra=OPERATIONAL,
    )
    save_all_checkpoints: bool = Field(
        False,
        description="keep the weights of every epoch as checkpoint_epoch*.pt",
        json_schema_extra=OPERATIONAL,
    )
    tensorboard_logging: bool = Field(
        True, description="write tb_logs/", json_schema_extra=OPERATIONAL
    )


class StatsOptions(Options):
    """`stats`: what is measured, and which measure picks the best checkpoint."""

    train: tuple[str, ...] = Field(("loss",), description="metrics of training epochs")
    val: tuple[str, ...] = Field(("loss",), description="metrics of evaluation")
    checkpoint_metric: str = Field("loss", description="metric of `val` that ranks checkpoints")
    checkpoint_metric_max: bool = Field(False, description="whether larger is better")
    patience: int | None = Field(
        None,
        ge=1,
        description="training stops after so many epochs without a better checkpoint_metric; null: never",
    )


class _ImagesOptions(Options):
    """Of tasks that say something of single images as well."""

    mode: Literal["validation_set", "single_image", "image_folder"] = Field(
        "validation_set",
        description="measure on the data set, or say what is in an image, or in those of a folder",
        json_schema_extra=OPERATIONAL,
    )
    path: str | None = Field(
        None, description="the image, or the folder of images", json_schema_extra=OPERATIONAL
    )


class DetectionEvaluationOptions(_ImagesOptions):
    """`evaluation.detection`: what `main_eval.py` does with a detector."""

    num_classes: int | None = Field(
        None,
        ge=2,
        description="classes and the background, instead of model.detection.n_classes",
        json_schema_extra=OPERATIONAL,
    )
    resize_input_images: bool = Field(
        True,
        description="resize as the validation of training does; false: every image at its own "
        "size, rounded down to a multiple of 32 pixels, in batches of one",
        json_schema_extra=OPERATIONAL,
    )


class SegmentationEvaluationOptions(_ImagesOptions):
    """`evaluation.segmentation`: what `main_eval.py` does with a network of segmentation."""

    save_masks: bool = Field(
        False,
        description="write the classes found, with the values of the data set's masks, as PNG",
        json_schema_extra=OPERATIONAL,
    )
    apply_color_map: bool = Field(
        False, description="write the classes found in colours", json_schema_extra=OPERATIONAL
    )
    save_overlay_rgb_pred: bool = Field(
        False, description="write the colours over the image", json_schema_extra=OPERATIONAL
    )
    overlay_mask_weight: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="share of the image in the overlay, as officially: 0 shows the colours only",
        json_schema_extra=OPERATIONAL,
    )
    resize_input_images: bool = Field(
        False,
        description="resize the short side to that of the sampler's base size; otherwise every "
        "image keeps its own size, rounded down to a multiple of the output stride",
        json_schema_extra=OPERATIONAL,
    )
    resize_input_images_fixed_size: bool = Field(
        False,
        description="resize to exactly the size of the validation of training",
        json_schema_extra=OPERATIONAL,
    )
    scales: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        description="multi-scale testing: the image at these multiples of its sides, averaged",
        json_schema_extra=OPERATIONAL,
    )
    flip: bool = Field(
        False,
        description="flip testing: the mirrored image as well, averaged",
        json_schema_extra=OPERATIONAL,
    )
    sliding_window: int | None = Field(
        None,
        ge=1,
        description="side of the windows through which a larger image is seen, pixels; averaged "
        "where they overlap",
        json_schema_extra=OPERATIONAL,
    )
    sliding_stride: int | None = Field(
        None,
        ge=1,
        description="pixels from one window to the next; null: two thirds of a window",
        json_schema_extra=OPERATIONAL,
    )

    @model_validator(mode="after")
    def _possible(self) -> SegmentationEvaluationOptions:
        if min(self.scales) <= 0:
            raise ValueError("scales: each must be greater than 0")
        if self.resize_input_images and self.resize_input_images_fixed_size:
            raise ValueError(
                "resize_input_images: cannot be given together with resize_input_images_fixed_size; "
                "leave one out"
            )
        if self.sliding_stride is not None and self.sliding_stride > (self.sliding_window or 0):
            raise ValueError(
                "sliding_stride: must not be greater than sliding_window, or pixels would be left out"
            )
        return self


class EvaluationSection(Options):
    """`evaluation`: stand-alone evaluation."""

    detection: DetectionEvaluationOptions = Field(
        default_factory=DetectionEvaluationOptions, description="of a detector"
    )
    segmentation: SegmentationEvaluationOptions = Field(
        default_factory=SegmentationEvaluationOptions, description="of a network of segmentation"
    )


class EmaOptions(Options):
    """`ema`: the exponential moving average of the weights."""

    enable: bool = Field(False, description="keep an averaged copy of the model")
    momentum: float = Field(1e-4, gt=0, le=1, description="m of e = (1 - m) e + m w")
    warmup: bool = Field(
        False,
        description="step t (from 0) has the larger of m and 9 / (10 + t), so that it starts fast",
    )
    copy_at_epoch: int = Field(
        -1,
        ge=-1,
        description="behind this epoch (counted from 0) the average becomes the model; -1: never",
    )
