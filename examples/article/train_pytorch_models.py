"""Train several small PyTorch models in parallel and merge their parameters (article, section 3, last example).

The article names this program without listing it. Here four networks, each an actor with its own quarter of the
training images, train side by side; after every round their parameters are averaged and handed back to all. The data
are the 1,797 handwritten digits that come with scikit-learn, so nothing is downloaded.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import core as ray

WORKERS, ROUNDS, EPOCHS_PER_ROUND, BATCH = 4, 5, 3, 32


def new_model():
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


@ray.remote
class Network:
    def __init__(self, images, labels, seed):
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.model = new_model()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.003)
        # A copy, because what comes out of the object store is read-only and PyTorch wants to own its data.
        self.images = torch.from_numpy(images.copy())
        self.labels = torch.from_numpy(labels.copy())

    def train(self, weights):
        """Train from ``weights`` on for some epochs; return the new weights."""
        self.model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        for _ in range(EPOCHS_PER_ROUND):
            for batch in torch.randperm(len(self.images)).split(BATCH):
                self.optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(self.model(self.images[batch]), self.labels[batch])
                loss.backward()
                self.optimizer.step()
        return {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}


def accuracy(weights, images, labels):
    model = new_model()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    with torch.no_grad():
        return float((model(torch.from_numpy(images)).argmax(dim=1).numpy() == labels).mean())


ray.init(num_cpus=WORKERS)
pixels, digits = load_digits(return_X_y=True)
split = train_test_split((pixels / 16).astype(np.float32), digits, test_size=0.25, random_state=0)
train_images, test_images, train_labels, test_labels = split

start = time.time()
networks = [
    Network.remote(images, labels, seed)
    for seed, (images, labels) in enumerate(
        zip(np.array_split(train_images, WORKERS), np.array_split(train_labels, WORKERS), strict=True)
    )
]
torch.manual_seed(0)
weights = {name: tensor.numpy() for name, tensor in new_model().state_dict().items()}
for round_number in range(1, ROUNDS + 1):
    shared = ray.put(weights)  # one copy for all networks
    trained = ray.get([network.train.remote(shared) for network in networks])
    weights = {name: np.mean([each[name] for each in trained], axis=0) for name in weights}
    print(f"round {round_number}: accuracy of the merged model {accuracy(weights, test_images, test_labels):.3f}")
print("duration =", time.time() - start)

assert accuracy(weights, test_images, test_labels) > 0.9
