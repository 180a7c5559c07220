"""Classes of ImageNet that published experiments are restricted to, by WordNet id.

A class is the name of its folder; its label is its place in these sorted tuples, if
they are given as `ImageFolder(classes=...)`, whatever other folders there are. ImageNet
(Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575) has 50 validation images of
each class.
"""

import functools
import importlib.util
from pathlib import Path

from jax_rcl.data.published.coarse import CoarseMap

IMAGENET_100 = tuple(
    """
    n01558993 n01692333 n01729322 n01735189 n01749939 n01773797 n01820546
    n01855672 n01978455 n01980166 n01983481 n02009229 n02018207 n02085620
    n02086240 n02086910 n02087046 n02089867 n02089973 n02090622 n02091831
    n02093428 n02099849 n02100583 n02104029 n02105505 n02106550 n02107142
    n02108089 n02109047 n02113799 n02113978 n02114855 n02116738 n02119022
    n02123045 n02138441 n02172182 n02231487 n02259212 n02326432 n02396427
    n02483362 n02488291 n02701002 n02788148 n02804414 n02859443 n02869837
    n02877765 n02974003 n03017168 n03032252 n03062245 n03085013 n03259280
    n03379051 n03424325 n03492542 n03494278 n03530642 n03584829 n03594734
    n03637318 n03642806 n03764736 n03775546 n03777754 n03785016 n03787032
    n03794056 n03837869 n03891251 n03903868 n03930630 n03947888 n04026417
    n04067472 n04099969 n04111531 n04127249 n04136333 n04229816 n04238763
    n04336792 n04418357 n04429376 n04435653 n04485082 n04493381 n04517823
    n04589890 n04592741 n07714571 n07715103 n07753275 n07831146 n07836838
    n13037406 n13040303
    """.split()
)
"""ImageNet-100: the 100 classes of contrastive multiview coding, Tian et al. 2020
(https://arxiv.org/abs/1906.05849), in sorted order.

126,689 training images and 5,000 for validation, 50 of each class. `jax-rcl prepare
imagenet100` makes it out of ImageNet.
"""

IMAGENET_100_NAMES = tuple(
    " ".join(
        """
        robin, Gila monster, hognose snake, garter snake, green mamba, garden spider,
        lorikeet, goose, rock crab, fiddler crab, American lobster, little blue heron,
        American coot, Chihuahua, Shih-Tzu, papillon, toy terrier, Walker hound, English
        foxhound, borzoi, Saluki, American Staffordshire terrier, Chesapeake Bay
        retriever, vizsla, kuvasz, komondor, Rottweiler, Doberman, boxer, Great Dane,
        standard poodle, Mexican hairless, coyote, African hunting dog, red fox, tabby,
        meerkat, dung beetle, walking stick, leafhopper, hare, wild boar, gibbon,
        langur, ambulance, bannister, bassinet, boathouse, bonnet, bottlecap, car wheel,
        chime, cinema, cocktail shaker, computer keyboard, Dutch oven, football helmet,
        gasmask, hard disc, harmonica, honeycomb, iron, jean, lampshade, laptop, milk
        can, mixing bowl, modem, moped, mortarboard, mousetrap, obelisk, park bench,
        pedestal, pickup, pirate, purse, reel, rocking chair, rotisserie, safety pin,
        sarong, ski mask, slide rule, stretcher, theater curtain, throne, tile roof,
        tripod, tub, vacuum, window screen, wing, head cabbage, cauliflower, pineapple,
        carbonara, chocolate sauce, gyromitra, stinkhorn
        """.split()
    ).split(", ")
)
"""What each class of `IMAGENET_100` is called: the first of its words in WordNet."""

IMAGENET_100_TRAIN = 126_689
"""Training images of `IMAGENET_100` in all."""

IMAGENET_100B = tuple(
    """
    n01484850 n01491361 n01498041 n01644900 n01667114 n01688243 n01742172
    n01773549 n01795545 n01819313 n01843065 n01990800 n02013706 n02088364
    n02096177 n02097130 n02098286 n02104365 n02107574 n02107683 n02109525
    n02132136 n02165105 n02169497 n02177972 n02229544 n02279972 n02280649
    n02281787 n02321529 n02342885 n02391049 n02457408 n02488702 n02492660
    n02643566 n02776631 n02777292 n02791270 n02793495 n02797295 n02808440
    n02840245 n02930766 n02966193 n02999410 n03000134 n03016953 n03063599
    n03125729 n03127747 n03179701 n03187595 n03207743 n03272010 n03314780
    n03388043 n03483316 n03495258 n03534580 n03544143 n03602883 n03670208
    n03692522 n03717622 n03720891 n03724870 n03782006 n03788365 n03792782
    n03796401 n03814906 n03857828 n03884397 n03888605 n03891332 n03920288
    n03929660 n03976657 n03982430 n04033901 n04039381 n04081281 n04147183
    n04179913 n04243546 n04254120 n04254777 n04258138 n04263257 n04356056
    n04366367 n04515003 n04540053 n07716906 n07745940 n09193705 n09468604
    n12057211 n12985857
    """.split()
)
"""ImageNet-100B: 100 other classes, none of them in `IMAGENET_100`, in sorted order.

What encoders of ImageNet-100 are transferred to by Ravula et al. 2021
(https://arxiv.org/abs/2110.07439). 5,000 images for validation, 50 of each class.
"""

RELABELLED = {
    "n01978287": "n01978455",  # Dungeness crab: rock crab
    "n02108915": "n02093428",  # French bulldog: American Staffordshire terrier
    "n02325366": "n02326432",  # wood rabbit: hare
    "n03792782": "n03785016",  # mountain bike: moped
    "n07930864": "n03062245",  # cup: cocktail shaker
}
"""Five classes outside of `IMAGENET_100`, in sorted order, and what each counts as.

An encoder that never saw them should find the class of ImageNet-100 that is most like
them (Ravula et al. 2021): 250 validation images under new labels.
"""

AS_RELABELLED = CoarseMap(
    "RELABELLED", tuple(map(IMAGENET_100.index, RELABELLED.values())), IMAGENET_100
)
"""The classes of `RELABELLED` under the labels and names of `IMAGENET_100`.

A source of them is `coarsened(ImageFolder(folder, size, classes=tuple(RELABELLED)),
AS_RELABELLED)`; in a config `node(Relabel, folder, **vars(AS_RELABELLED))`.
"""


@functools.cache
def every_class() -> tuple[str, ...]:
    """The 1000 classes of ImageNet in sorted order, the order of most classifiers.

    As the installed tensorflow_datasets lists them, of which nothing is imported.
    """
    found = importlib.util.find_spec("tensorflow_datasets")
    assert found is not None and found.origin is not None, "it is a dependency"
    path = Path(found.origin).parent / "datasets" / "imagenet2012" / "labels.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist, where tensorflow_datasets 4.9.10 lists the "
            "classes of ImageNet; install that version."
        )
    return tuple(sorted(path.read_text("utf-8").split()))


def places(classes: tuple[str, ...]) -> tuple[int, ...]:
    """Which outputs of a classifier of all of ImageNet are these classes."""
    place_of = {name: place for place, name in enumerate(every_class())}
    return tuple(place_of[name] for name in classes)


RENDITIONS = tuple(
    """
    n01820546 n01855672 n01983481 n02085620 n02086240 n02106550 n02108089
    n02113799 n02119022 n02123045 n02138441 n02483362 n02701002 n03424325
    n03494278 n03930630 n03947888 n07714571 n07753275
    """.split()
)
"""The 19 classes of `IMAGENET_100` that ImageNet-R has as well, in sorted order.

ImageNet-R: Hendrycks et al. 2021 (https://arxiv.org/abs/2006.16241), 200 classes.
"""

VALIDATION_IMAGES = 50
"""Validation images of each class of ImageNet, and of each cell of ImageNet-C."""
