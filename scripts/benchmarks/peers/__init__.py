"""Searches with other libraries for the live race, as their users would write them, without pneumosearch."""

from typing import Final

#: Hyperparameters that these scripts support; the file of the space has the baseline value of each.
UNDERSTOOD: Final = {
    *("image_size", "width", "filters_1", "filters_2", "filters_3", "filters_4", "filters_5", "dropout_conv"),
    *("units_1", "units_2", "units_3", "dropout_1", "dropout_2", "dropout_3", "zoom", "vertical_flip"),
    *("learning_rate", "lr_reduce_factor", "lr_reduce_patience", "lr_reduce_mode", "batch_size", "epochs"),
    "batch_norm_momentum",
}
