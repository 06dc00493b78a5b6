"""The published network in Keras as a contender; see ``compare.py``, which starts it in Keras' own environment.

predict: a compiled graph (``tf.function``). train: ``model.fit`` on eight batches, Adam. attack: ten steps of PGD, the
gradient by ``tf.GradientTape``, each step a compiled graph: operation by operation Keras is many times slower still.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import published_keras
import tensorflow as tf
from published_keras import keras
from served import serve

BATCHES = 8  # of one fit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["predict", "train", "attack"])
    parser.add_argument("case", help="npz: images, labels and weights")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(asked.threads)
    tf.config.threading.set_inter_op_parallelism_threads(asked.threads)
    with np.load(asked.case, allow_pickle=False) as case:
        arrays = {name: case[name] for name in case.files}
    images = [tf.constant(arrays[f"input.{name}"].transpose(0, 2, 3, 1)) for name in ("a", "b")]
    labels = [arrays[name] for name in sorted(arrays) if name.startswith("label.")]
    classes = tuple(int(k) for k in arrays["classes"])
    model = published_keras.build(images[0].shape[1], classes)
    weights = {name.removeprefix("weights."): value for name, value in arrays.items() if name.startswith("weights.")}
    published_keras.copy_weights(model, weights)

    def predict() -> list[np.ndarray]:
        return [answer.numpy() for answer in answers(images)]

    answers = tf.function(lambda x: model(x, training=False))
    facts = {"probabilities": [answer.tolist() for answer in predict()]}
    if asked.what == "predict":
        serve(predict, facts=facts)
    elif asked.what == "train":
        model.compile(optimizer=keras.optimizers.Adam(1e-4), loss=["sparse_categorical_crossentropy"] * len(labels))
        many = [np.tile(image.numpy(), (BATCHES, 1, 1, 1)) for image in images]
        known = [np.tile(label, BATCHES) for label in labels]
        size = len(labels[0])
        serve(lambda: model.fit(many, known, batch_size=size, epochs=1, verbose=0), BATCHES, facts)
    else:
        serve(attacker(model, images, labels), facts=facts)


def attacker(model: keras.Model, images: list[tf.Tensor], labels: list[np.ndarray]) -> Callable[[], list[tf.Tensor]]:
    """Ten steps of a quarter of 4/255 along the sign of the gradient of the summed losses."""
    eps = 4 / 255
    loss = keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def ascent(x: list[tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = sum(loss(label, said) for label, said in zip(labels, model(x, training=False), strict=True))
        return tape.gradient(total, x)

    def call() -> list[tf.Tensor]:
        x = list(images)
        for _ in range(10):
            x = [
                tf.clip_by_value(tf.clip_by_value(now + eps / 4 * tf.sign(up), clean - eps, clean + eps), 0, 1)
                for now, up, clean in zip(x, ascent(x), images, strict=True)
            ]
        return x

    return call


if __name__ == "__main__":
    main()
