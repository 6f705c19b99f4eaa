"""Build shim: every fact comes from settings.ini, which nbdev reads too, and the peers' versions from their own list."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

here = Path(__file__).parent
# Only '=' divides a key from its value: values hold colons.
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

lib, url = cfg["lib_name"], cfg["git_url"]
verify = cfg["verify_requirements"].split()
dev = cfg["dev_requirements"].split()
listed = (here / "tools/peers/requirements.txt").read_text(encoding="utf-8").splitlines()
pins = dict(line.split("==") for line in listed if "==" in line and line[0] != "#")
peers = [f"{name}=={pins[name]}" for name in cfg["peers_requirements"].split()]

status = {"2": "2 - Pre-Alpha", "3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}
first = int(cfg["min_python"].split(".")[1])

setup(
    name=lib,
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    url=url,
    project_urls={
        "Source": url,
        "Issues": f"{url}/issues",
        "Changelog": f"{url}/blob/{cfg['branch']}/CHANGELOG.md",
    },
    keywords=cfg["keywords"].split(),
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        f"Development Status :: {status[cfg['status']]}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        "Framework :: Jupyter",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(first, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Mathematics",
        "Typing :: Typed",
    ],
    packages=[lib],
    package_data={lib: ["py.typed"]},
    zip_safe=False,
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={"verify": verify, "dev": verify + dev, "peers": verify + peers},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
)
