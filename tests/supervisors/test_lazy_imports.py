"""Modules beside a script that its functions import in their bodies arrive with them, and are seen by nobody else."""

import pickle
import subprocess
import sys
import textwrap

import pytest

from supervisors.wire import imports, pickles

FILES = {
    "script.py": """
        import sys
        import loaded, holding
        from supervisors.wire.pickles import dumps

        loaded.NUMBER = 10  # as it is now, and not as its file says

        def names():
            import source, json
            from package import inner
            import package.inner as again
            nested = [source.value() for _ in range(1)]
            return source.value(), inner.VALUE, again is inner, nested, json.dumps(1), package_top()

        def package_top():
            import package.inner
            return package.OWN

        def inner_function():
            def deep():
                import loaded
                return loaded.NUMBER
            return (lambda: deep())()

        class Thing:
            def method(self):
                from source import value
                return value()

        def held():
            import holding
            return holding.NUMBER

        def missing():
            try:
                import nowhere_to_be_found
            except ImportError:
                return "missing"

        def failing():
            import failing
            return failing.NUMBER

        made = [names, inner_function, Thing().method, held, missing, failing]
        open(sys.argv[1], "wb").write(dumps(made))
        print([each() for each in made[:-1]])
    """,
    "loaded.py": "NUMBER = 1\n",
    "source.py": """
        import deeper
        def value():
            import loaded
            return 2 + deeper.NUMBER + loaded.NUMBER
    """,
    "deeper.py": "NUMBER = 100\n",
    "holding.py": "NUMBER = 3\nFILE = open(__file__)\n",
    "package/__init__.py": "OWN = 'own'\n",
    "package/inner.py": "from .other import VALUE\n",
    "package/other.py": "from . import OWN\nVALUE = OWN * 2\n",
    "failing.py": "raise KeyError('as it is')\n",
}


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    done = subprocess.run([sys.executable, "script.py", "out"], cwd=folder, capture_output=True, text=True, check=True)
    return (folder / "out").read_bytes(), done.stdout


def test_they_say_what_they_say_at_home(sent):
    data, said = sent
    made = pickle.loads(data)
    assert f"{[each() for each in made[:-1]]}\n" == said
    assert {"source", "loaded", "package", "deeper"}.isdisjoint(sys.modules)


def test_a_module_that_fails_fails_each_time_as_an_import_does(sent):
    made = pickle.loads(sent[0])
    for _ in range(2):
        with pytest.raises(KeyError, match="as it is"):
            made[-1]()


def test_two_pickles_do_not_see_each_others_modules(sent):
    one, other = pickle.loads(sent[0]), pickle.loads(sent[0])
    one[1].__globals__["__builtins__"]["__import__"]("loaded").NUMBER = 11
    assert (one[1](), other[1]()) == (11, 10)


def test_they_travel_on(sent):
    again = pickle.loads(pickles.dumps(pickle.loads(sent[0])[1]))
    assert again() == 10


def test_what_is_installed_is_not_brought():
    def function():
        import json
        import os.path

        import hypothesis

        return hypothesis, json, os.path

    assert imports.brought(function, pickles.travels_by_value, lambda module: True) == {}


@pytest.mark.parametrize("source", [b"def broken(:", b"# \xff", b"x = '\0'"])
def test_a_module_that_nobody_can_import_is_not_brought(source, tmp_path, monkeypatch):
    (tmp_path / "cannot_be_read.py").write_bytes(source)
    monkeypatch.syspath_prepend(tmp_path)

    def function():
        try:
            import cannot_be_read
        except (SyntaxError, UnicodeDecodeError):
            return None
        return cannot_be_read

    assert imports.brought(function, pickles.travels_by_value, lambda module: True) == {}


def test_relative_names_in_a_module_without_a_package():
    assert imports.absolute_name("x", 1, {"__name__": "script"}) is None
    assert imports.absolute_name("x", 1, {"__name__": "a.b", "__package__": "a"}) == "a.x"
    assert imports.absolute_name("", 1, {"__name__": "a", "__path__": []}) == "a"
