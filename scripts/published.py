"""The published script of the study with the changes that Keras 3 requires, each marked CHANGED.

Usage: python scripts/published.py chest_xray [EPOCHS]

It trains on `train` and evaluates each epoch on `test`, as published. `scripts/bench training` times it.
"""

import os
import sys
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

# CHANGED: Keras 3 has no keras.backend to import as K, nor any use for it here; pandas and random were never used.
from keras.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from keras.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPool2D, SeparableConv2D
from keras.models import Model

input_path = sys.argv[1].rstrip("/") + "/"  # CHANGED: was the author's drive

seed = 232
np.random.seed(seed)
tf.random.set_seed(seed)

for _set in ["train", "val", "test"]:
    n_normal = len(os.listdir(input_path + _set + "/NORMAL"))
    n_infect = len(os.listdir(input_path + _set + "/PNEUMONIA"))
    print(f"Ensemble:{_set}/Scans sains:{n_normal}/Scans de pneumonie:{n_infect}")


def process_data(img_dims: int, batch_size: int) -> tuple[Any, Any, Any, Any]:  # noqa: D103
    # CHANGED: the class left keras.preprocessing.image; TensorFlow still gives the same one.
    ImageDataGenerator = tf.keras.preprocessing.image.ImageDataGenerator  # noqa: N806
    train_datagen = ImageDataGenerator(rescale=1.0 / 255, zoom_range=0.3, vertical_flip=True)
    test_val_datagen = ImageDataGenerator(rescale=1.0 / 255)

    train_gen = train_datagen.flow_from_directory(
        directory=input_path + "train",
        target_size=(img_dims, img_dims),
        batch_size=batch_size,
        class_mode="binary",
        shuffle=True,
    )

    test_gen = test_val_datagen.flow_from_directory(
        directory=input_path + "test",
        target_size=(img_dims, img_dims),
        batch_size=batch_size,
        class_mode="binary",
        shuffle=True,
    )

    test_data = []
    test_labels = []

    for cond in ["/NORMAL/", "/PNEUMONIA/"]:
        for name in os.listdir(input_path + "test" + cond):
            img = plt.imread(input_path + "test" + cond + name)
            img = cv2.resize(img, (img_dims, img_dims))
            if img.ndim == 2:  # CHANGED: the listing stacks colour images too, and fails on them
                img = np.dstack([img, img, img])
            img = img.astype("float32") / 255
            label = 0 if cond == "/NORMAL/" else 1
            test_data.append(img)
            test_labels.append(label)

    return train_gen, test_gen, np.array(test_data), np.array(test_labels)


img_dims = 150
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 5  # CHANGED: was 5; the published table goes to 10
batch_size = 32

train_gen, test_gen, test_data, test_labels = process_data(img_dims, batch_size)

inputs = Input(shape=(img_dims, img_dims, 3))

x = Conv2D(filters=16, kernel_size=(3, 3), activation="relu", padding="same")(inputs)
x = Conv2D(filters=16, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = MaxPool2D(pool_size=(2, 2))(x)

x = SeparableConv2D(filters=32, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = SeparableConv2D(filters=32, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = BatchNormalization()(x)
x = MaxPool2D(pool_size=(2, 2))(x)

x = SeparableConv2D(filters=64, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = SeparableConv2D(filters=64, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = BatchNormalization()(x)
x = MaxPool2D(pool_size=(2, 2))(x)

x = SeparableConv2D(filters=128, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = SeparableConv2D(filters=128, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = BatchNormalization()(x)
x = MaxPool2D(pool_size=(2, 2))(x)
x = Dropout(rate=0.2)(x)

x = SeparableConv2D(filters=256, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = SeparableConv2D(filters=256, kernel_size=(3, 3), activation="relu", padding="same")(x)
x = BatchNormalization()(x)
x = MaxPool2D(pool_size=(2, 2))(x)
x = Dropout(rate=0.2)(x)

x = Flatten()(x)
x = Dense(units=512, activation="relu")(x)
x = Dropout(rate=0.7)(x)
x = Dense(units=128, activation="relu")(x)
x = Dropout(rate=0.5)(x)
x = Dense(units=64, activation="relu")(x)
x = Dropout(rate=0.3)(x)

output = Dense(units=1, activation="sigmoid")(x)

model = Model(inputs=inputs, outputs=output)
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])

# CHANGED: Keras 3 wants this ending instead of .hdf5
checkpoint = ModelCheckpoint(filepath="best_weights.weights.h5", save_best_only=True, save_weights_only=True)
lr_reduce = ReduceLROnPlateau(monitor="val_loss", factor=0.3, patience=2, verbose=2, mode="max")
early_stop = EarlyStopping(monitor="val_loss", min_delta=0.1, patience=1, mode="min")

hist = model.fit(  # CHANGED: was fit_generator
    train_gen,
    steps_per_epoch=train_gen.samples // batch_size,
    epochs=epochs,
    validation_data=test_gen,
    validation_steps=test_gen.samples // batch_size,
    callbacks=[checkpoint, lr_reduce],
)
