"""The tree of errors."""

import re

from gradcam_service import errors
from gradcam_service.errors import ServiceError, first_line, in_one_line, unwrapped


def test_the_tree_in_the_docstring_is_that_of_the_classes():
    drawn, path = {}, ["ServiceError"]
    for indent, name in re.findall(r"^    ([│ ]*)[├└]── (\w+)", errors.__doc__, re.MULTILINE):
        path[len(indent) // 4 + 1 :] = [name]
        drawn[name] = path[-2]
    classes = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, ServiceError)]
    assert drawn == {cls.__name__: cls.__base__.__name__ for cls in classes if cls is not ServiceError}


def test_what_a_library_says_is_one_line_and_never_nothing():
    several = ValueError("  a\n\tb  c\n")
    assert (first_line(several), in_one_line(several), unwrapped(several)) == ("a", "ValueError: a", "a b c")
    assert (first_line(KeyError()), in_one_line(KeyError()), unwrapped(KeyError())) == ("KeyError",) * 3
