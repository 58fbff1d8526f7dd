"""Packaging of adpe_mm. What it needs is listed in requirements/."""

import re
import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def requirements(name: str) -> list[str]:
    """Returns the lines of ``requirements/NAME.txt`` without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith('#')]


class BuildWithMim(build_py):
    """Puts configs, tools and the model index where MIM looks for them, into ``adpe_mm/.mim``.

    An editable install gets links to them, anything else gets copies.
    """

    def run(self):
        super().run()
        package = ROOT / 'adpe_mm' if self.editable_mode else Path(self.build_lib) / 'adpe_mm'
        mim = package / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in ('configs', 'tools', 'model-index.yml'):
            source, target = ROOT / name, mim / name
            if self.editable_mode:
                target.symlink_to(Path('..', '..', name))
            elif source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy2(source, target)


def long_description() -> str:
    """Returns the README without the images and links that lead nowhere outside of the clone."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    readme = re.sub(r'!\[[^]]*\]\((?!https?://)[^)]*\)\n*', '', readme)
    return re.sub(r'\[([^]]*)\]\((?!https?://)[^)]*\)', r'\1', readme)


setup(
    name='adpe_mm',
    version=runpy.run_path(str(ROOT / 'adpe_mm' / 'version.py'))['__version__'],
    description='Adversarial positional embeddings for pretraining Vision Transformers',
    long_description=long_description(),
    long_description_content_type='text/markdown',
    author='The adpe_mm contributors',
    license='Apache-2.0',
    keywords=[
        'self-supervised learning',
        'masked image modeling',
        'vision transformer',
        'AdPE',
        'MAE',
        'OpenMMLab',
    ],
    project_urls={
        'Paper': 'https://arxiv.org/abs/2303.07598',
        'Official AdPE code': 'https://github.com/maple-research-lab/AdPE',
        'OpenMMLab': 'https://github.com/open-mmlab',
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(10, 14)),
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    packages=find_packages(include=['adpe_mm', 'adpe_mm.*']),
    python_requires='>=3.10',
    install_requires=requirements('runtime'),
    extras_require={name: requirements(name) for name in ('seg', 'det', 'dev', 'docs')},
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
