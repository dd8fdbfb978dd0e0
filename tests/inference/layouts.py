"""Small repositories, and what judges them: files → gates and setup, by the row of what decides.

Each row has three layouts at most. A layout with a project's name before the colon has the shape of
that project's files.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """A commit's files, and what is inferred from them.

    `gates`: the name of each gate, its command as shown, and where it comes from. `setup`: its
    commands without the venv and the installation of uv, as `tests.inference.layouts_of` shows
    them. `keeps`: the folders of dependencies that setup makes in the tree.
    """

    row: str
    name: str
    files: dict[str, str]
    gates: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()


LAYOUTS = (
    Layout(
        row="tox in a workflow",
        name="wcwidth: a variable names the environment",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  tests:
    runs-on: ubuntu-latest
    strategy: {matrix: {python-version: ['3.12', '3.13']}}
    steps:
    - run: |
        V=${{ matrix.python-version }}
        V=py$(echo $V | tr -d .)
        echo TOX_PYTHON=$V >>$GITHUB_ENV
        python -Im pip install tox
    - run: python -Im tox -e ${{ env.TOX_PYTHON }} --installpkg dist/a-*.whl
""",
            "tox.ini": "[tox]\nenvlist = docs\n",
        },
        gates=("tox-py313: TOX_PYTHON=py313 tox -e py313 <- ci.yml:12",),
        setup=("client tox", "env TOX_PYTHON=py313 tox run --notest -e py313"),
        keeps=(".tox",),
    ),
    Layout(
        row="tox in a workflow",
        name="h11: environments at the same time",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  tests:
    runs-on: ubuntu-latest
    steps:
    - run: pip install tox
    - run: tox --parallel auto --notest
    - run: tox --parallel 0
""",
            "tox.ini": "[tox]\nenvlist = py\n",
        },
        gates=("tox: tox --parallel auto --notest && tox --parallel 0 <- ci.yml:7, ci.yml:8",),
        setup=("client tox", "tox run --notest"),
        keeps=(".tox",),
    ),
    Layout(
        row="Yarn in a workflow",
        name="immer: a script named coverage",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  tests:
    runs-on: ubuntu-latest
    steps:
    - run: yarn --frozen-lockfile
    - run: yarn coverage
""",
            "package.json": '{"scripts": {"coverage": "vitest --coverage"}, "dependencies": {"a": "1"}}',
            "yarn.lock": "# yarn lockfile v1\n",
        },
        gates=("coverage: yarn coverage <- ci.yml:7",),
        setup=(
            "get yarn@1",
            'YARN_CACHE_FOLDER="$npm_config_cache/yarn" yarn install --frozen-lockfile --non-interactive',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="a workflow",
        name="requests: a target of make installs",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {python-version: ['3.10', '3.13', pypy-3.11]}}
    steps:
    - run: make
    - run: make ci
""",
            "Makefile": """\
init:
	pip install -r requirements-dev.txt
ci:
	pytest tests
""",
        },
        gates=("ci: make ci <- ci.yml:8",),
        setup=("make",),
    ),
    Layout(
        row="a workflow",
        name="chalk",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {node-version: [26, 14]}}
    steps:
    - uses: actions/setup-node@v6
    - run: npm install
    - run: npm test
""",
            "package.json": '{"scripts": {"test": "xo && ava"}, "devDependencies": {"ava": "6"}}',
        },
        gates=("test: npm test <- ci.yml:9",),
        setup=("npm install --no-package-lock --no-audit --no-fund",),
        keeps=("node_modules",),
    ),
    Layout(
        row="a workflow",
        name="starlette: the project's own scripts",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {python-version: ['3.12', '3.13', '3.14']}}
    steps:
    - run: scripts/install
    - run: scripts/check
      if: matrix.python-version != '3.14'
    - run: scripts/test
    - run: scripts/coverage
""",
        },
        gates=(
            "check: scripts/check && scripts/test && scripts/coverage <- ci.yml:8, ci.yml:10, ci.yml:11",
        ),
        setup=("scripts/install",),
    ),
    Layout(
        row="versions in a matrix",
        name="attrs: another job computes the versions, and builds the package",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    env: {PYTHON: '${{ matrix.python-version }}'}
    strategy: {matrix: {python-version: '${{ fromJson(needs.build.outputs.versions) }}'}}
    steps:
    - uses: actions/download-artifact@v8
    - run: tar xf dist/*.tar.gz
    - run: >
        uv run --only-group tox
        tox run --installpkg dist/*.whl -e $PYTHON-tests
""",
            "pyproject.toml": """\
[project]
name = 'attrs'
""",
            "uv.lock": "",
        },
        gates=("tox-3.13-tests: PYTHON=3.13 tox run -e 3.13-tests <- ci.yml:11",),
        setup=(
            "uv sync --inexact --only-group tox --reinstall-package attrs",
            "env PYTHON=3.13 tox run --notest -e 3.13-tests",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="versions in a matrix",
        name="black: PyPy is not here, and shell code names the environment",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {python-version: ['3.10', '3.13', 'pypy3.11-v7.3.22'], os: [ubuntu-latest, windows-11-arm]}}
    steps:
    - run: pip install --group tox
    - run: tox -e ci-py$(echo ${{ matrix.python-version }} | tr -d '.') -- -v
      if: "!startsWith(matrix.python-version, 'pypy')"
    - run: tox -e ci-pypy3 -- -v
      if: startsWith(matrix.python-version, 'pypy')
""",
        },
        gates=("tox-ci-py313: tox -e ci-py313 -- -v <- ci.yml:8",),
        setup=(
            "client tox",
            "tox run --notest -e ci-py313",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="versions in a matrix",
        name="pluggy: an environment of a Python that is not here",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {name: [a, b, c], include: [{name: a, python: '3.10', tox_env: py310-pytestmain}, {name: b, python: '3.13', tox_env: py313}, {name: c, python: pypy3.10, tox_env: pypy3}]}}
    steps:
    - run: pip install tox
    - run: tox run --installpkg dist/*.whl
      env: {TOX_ENV: '${{ matrix.tox_env }}-coverage'}
""",
        },
        gates=("tox-py313-coverage: tox run -e py313-coverage <- ci.yml:8",),
        setup=(
            "client tox",
            "tox run --notest -e py313-coverage",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="tasks in a matrix",
        name="scrapy: each entry has its variables",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {include: [{python-version: '3.13', env: {TOXENV: py}}, {python-version: '3.10', env: {TOXENV: mypy}}, {python-version: '3.10', env: {TOXENV: min}}, {python-version: '3.13', env: {TOXENV: docs}}]}}
    steps:
    - run: uvx --with tox-uv tox
      env: ${{ matrix.env }}
""",
        },
        gates=(
            "tox-mypy: tox -e mypy <- ci.yml:7",
            "tox-py: tox -e py <- ci.yml:7",
        ),
        setup=(
            "client tox-uv tox",
            "tox run --notest -e py",
            "tox run --notest -e mypy",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="tasks in a matrix",
        name="healthchecks: entries with a database server",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {db: [sqlite, postgres, mysql], python-version: ['3.12', '3.13']}}
    steps:
    - run: sudo systemctl start mysql.service
      if: matrix.db == 'mysql'
    - run: pip install -r requirements.txt
    - run: python manage.py test
      env: {DB: '${{ matrix.db }}'}
""",
            "requirements.txt": "django\n",
            "manage.py": "",
        },
        gates=("manage.py: DB=sqlite python manage.py test <- ci.yml:10",),
        setup=("pip install -r requirements.txt",),
    ),
    Layout(
        row="tasks in a matrix",
        name="gin: build tags",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    env: {TESTTAGS: '${{ matrix.test-tags }}', GOPROXY: 'https://proxy.golang.org'}
    strategy: {matrix: {go: ['1.25', '1.26'], test-tags: ['', '-tags nomsgpack']}}
    steps:
    - run: make test
""",
            "go.mod": "module gin\n",
            "Makefile": """\
test:
	go test $(TESTTAGS) ./...
""",
        },
        gates=(
            "test: TESTTAGS='' make test <- ci.yml:8",
            "test-2: TESTTAGS='-tags nomsgpack' make test <- ci.yml:8",
        ),
    ),
    Layout(
        row="events and conditions",
        name="trpc: a check only for pull requests, and a local action",
        files={
            ".github/workflows/ci.yml": """\
on: {push: {branches: [main]}, pull_request: }
jobs:
  test:
    runs-on: ubuntu-latest
    if: github.event_name == 'pull_request'
    steps:
    - uses: ./.github/setup
    - run: pnpm typecheck
""",
            ".github/workflows/main.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: ./.github/setup
    - run: pnpm test --coverage
""",
            ".github/setup/action.yml": """\
runs:
  using: composite
  steps:
  - run: pnpm install
    shell: bash
""",
            "pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
            "package.json": '{"packageManager": "pnpm@10.33.1"}',
        },
        gates=(
            "typecheck: pnpm typecheck <- ci.yml:8",
            "test: pnpm test --coverage <- main.yml:7",
        ),
        setup=(
            "get pnpm@10.33.1",
            'CI=true pnpm install --frozen-lockfile --package-import-method=copy --store-dir "$npm_config_cache/pnpm"',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="events and conditions",
        name="marshmallow: a job for tags alone, in a file that also releases",
        files={
            ".github/workflows/build-release.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {include: [{name: '3.9', python: '3.9', tox: py39}, {name: '3.13', python: '3.13', tox: py313}]}}
    steps:
    - run: pip install tox
    - run: python -m tox -e ${{ matrix.tox }}
""",
            ".github/workflows/lint.yml": """\
on: push
jobs:
  a:
    runs-on: ubuntu-latest
    if: startsWith(github.ref, 'refs/tags')
    steps:
    - run: tox -e lint
""",
        },
        gates=("tox-py313: tox -e py313 <- build-release.yml:8",),
        setup=(
            "client tox",
            "tox run --notest -e py313",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="events and conditions",
        name="axios: what only GitHub knows counts as true",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: npm ci
      if: steps.changed.outputs.only_modified == 'false'
    - run: npm test
      if: steps.changed.outputs.only_modified == 'false'
""",
            "package-lock.json": "",
            "package.json": '{"scripts": {"test": "mocha"}}',
        },
        gates=("test: npm test <- ci.yml:8",),
        setup=("npm ci --no-audit --no-fund",),
        keeps=("node_modules",),
    ),
    Layout(
        row="services and containers",
        name="Django REST framework: tests with a service, so tox.ini gives the tests",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    services: {db: {image: 'postgres:16'}}
    steps:
    - run: pip install tox
    - run: tox run
""",
            ".github/workflows/lint.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: j178/prek-action@v3
""",
            "tox.ini": """\
[tox]
envlist =
    py{312,313}-django{52,main}
    docs
""",
            ".pre-commit-config.yaml": "",
        },
        gates=(
            'pre-commit: PRE_COMMIT_HOME="$PIP_CACHE_DIR/pre-commit" pre-commit run --all-files <- lint.yml:6',
            "tox-py-django52: tox run -e py-django52 <- tox.ini",
        ),
        setup=(
            "client tox",
            "tox run --notest -e py-django52",
            "pip install pre-commit",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="services and containers",
        name="loguru: a container in some entries",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    container: ${{ matrix.container }}
    strategy: {matrix: {python-version: ['3.13'], include: [{python-version: '3.5', container: 'python:3.5-slim'}]}}
    steps:
    - run: pip install tox
    - run: tox -e tests
""",
        },
        gates=("tox-tests: tox -e tests <- ci.yml:9",),
        setup=(
            "client tox",
            "tox run --notest -e tests",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="services and containers",
        name="a step starts a service",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: docker compose up -d db
    - run: npm test
""",
            "package.json": '{"scripts": {"test": "jest", "lint": "eslint ."}}',
        },
        gates=(
            "lint: npm run lint <- package.json, scripts.lint",
            "test: npm test <- package.json, scripts.test",
        ),
    ),
    Layout(
        row="other versions of packages",
        name="requests: a job with an old urllib3",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pip install -e . pytest
    - run: pytest tests
""",
            ".github/workflows/urllib3.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pip install -e . pytest
    - run: pip install 'urllib3<2'
    - run: pytest tests -q
""",
            "setup.py": "",
        },
        gates=("pytest: pytest tests <- ci.yml:7",),
        setup=("pip install -e . pytest",),
    ),
    Layout(
        row="other versions of packages",
        name="zod: all test jobs change a version, so one stands for all",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {typescript: ['5.5', latest]}}
    steps:
    - run: pnpm install
    - run: pnpm build
    - run: pnpm add typescript@${{ matrix.typescript }} -w
    - run: pnpm test
    - run: pnpm run --filter @zod/resolution test:all
""",
            ".github/workflows/lint.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pnpm install
    - run: pnpm check:circular
""",
            "pnpm-lock.yaml": "",
            "package.json": '{"packageManager": "pnpm@10.12.1", "scripts": {"check:circular": "madge src"}}',
        },
        gates=(
            "check-circular: pnpm check:circular <- lint.yml:7",
            "test: pnpm build && pnpm test && pnpm run --filter @zod/resolution test:all <- ci.yml:10, ci.yml:11",
        ),
        setup=(
            "get pnpm@10.12.1",
            'CI=true pnpm install --frozen-lockfile --package-import-method=copy --store-dir "$npm_config_cache/pnpm"',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="other versions of packages",
        name="zustand: a job that changes the tree",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pnpm install
    - run: pnpm run test:format
    - run: pnpm run test:spec
    - run: pnpm run build
""",
            ".github/workflows/test-old-typescript.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pnpm install
    - run: sed -i~ 's/a/b/' tsconfig.json
    - run: pnpm run test:types
""",
            "pnpm-lock.yaml": "",
            "package.json": "{}",
        },
        gates=(
            "test-format: pnpm run test:format && pnpm run test:spec && pnpm run build <- ci.yml:7, ci.yml:8",
        ),
        setup=(
            "get pnpm@latest",
            'CI=true pnpm install --frozen-lockfile --package-import-method=copy --store-dir "$npm_config_cache/pnpm"',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="what another job built",
        name="redux-toolkit: tests of an artifact, so package.json gives the tests",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: actions/download-artifact@v8
    - run: yarn workspace @reduxjs/toolkit add $(pwd)/package.tgz
    - run: ../../node_modules/.bin/vitest --run
""",
            "yarn.lock": "",
            ".yarnrc.yml": "",
            "package.json": '{"packageManager": "yarn@4.4.1", "workspaces": ["packages/*"], "scripts": {"test": "yarn test:packages"}}',
            "packages/toolkit/package.json": "{}",
        },
        gates=("test: yarn test <- package.json, scripts.test",),
        setup=(
            "get @yarnpkg/cli-dist@4.4.1",
            'YARN_CACHE_FOLDER="$npm_config_cache/berry" YARN_ENABLE_TELEMETRY=0 yarn install --immutable',
        ),
        keeps=(
            "node_modules",
            "packages/toolkit/node_modules",
        ),
    ),
    Layout(
        row="what another job built",
        name="fastapi: a folder that a release makes",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: python -m build --sdist
    - run: |
        cd dist/fastapi*/
        bash scripts/test.sh
""",
            ".github/workflows/test.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pip install -e .[all]
    - run: mkdir coverage
    - run: bash scripts/test-cov.sh
""",
            "scripts/test-cov.sh": "",
            "pyproject.toml": "[project]\n",
        },
        gates=("test-cov.sh: mkdir coverage && bash scripts/test-cov.sh <- test.yml:8",),
        setup=("pip install -e .[all]",),
    ),
    Layout(
        row="what another job built",
        name="pydantic: another project's tests",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: actions/checkout@v7
      with: {repository: fastapi/fastapi}
    - run: pip install -e .
    - run: pytest tests
""",
            ".github/workflows/test.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: make test
""",
            "Makefile": """\
test:
	pytest
""",
        },
        gates=("test: make test <- test.yml:6",),
    ),
    Layout(
        row="composite actions and reusable workflows",
        name="vue: a reusable workflow with parallel steps",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    uses: ./.github/workflows/test.yml
""",
            ".github/workflows/test.yml": """\
on: workflow_call
jobs:
  unit:
    runs-on: ubuntu-latest
    steps:
    - run: pnpm install
    - parallel:
      - run: pnpm run lint
      - run: pnpm run format-check
    - run: pnpm run test-unit
""",
            "pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
            "package.json": "{}",
        },
        gates=(
            "lint: pnpm run lint <- test.yml:8",
            "format-check: pnpm run format-check <- test.yml:9",
            "test-unit: pnpm run test-unit <- test.yml:10",
        ),
        setup=(
            "get pnpm@9",
            'CI=true pnpm install --frozen-lockfile --package-import-method=copy --store-dir "$npm_config_cache/pnpm"',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="composite actions and reusable workflows",
        name="jest: shards, and an action that tries again",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    uses: ./.github/workflows/test.yml
    strategy: {matrix: {shard: ['1/2', '2/2']}}
    with: {os: ubuntu-latest, shard: '${{ matrix.shard }}'}
""",
            ".github/workflows/test.yml": """\
on:
  workflow_call:
    inputs: {os: {type: string}, shard: {type: string}}
jobs:
  unit:
    runs-on: ${{ inputs.os }}
    steps:
    - run: yarn --immutable
    - uses: nick-fields/retry@v4
      with:
        command: yarn test-ci --max-workers ${{ steps.cpu.outputs.count }} --shard=${{ inputs.shard }}
""",
            "yarn.lock": "",
            ".yarnrc.yml": "",
            "package.json": '{"packageManager": "yarn@4.18.0"}',
        },
        gates=(
            "test-ci: yarn test-ci --shard=1/2 <- test.yml:9",
            "test-ci-2: yarn test-ci --shard=2/2 <- test.yml:9",
        ),
        setup=(
            "get @yarnpkg/cli-dist@4.18.0",
            'YARN_CACHE_FOLDER="$npm_config_cache/berry" YARN_ENABLE_TELEMETRY=0 yarn install --immutable',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="composite actions and reusable workflows",
        name="an action of the repository installs, and gets a version",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: ./.github/actions/setup
      with: {groups: test}
    - run: pytest
""",
            ".github/actions/setup/action.yml": """\
inputs: {groups: {default: dev}}
runs:
  using: composite
  steps:
  - run: pip install --group ${{ inputs.groups }} -e .
    shell: bash
""",
            "pyproject.toml": "[project]\n",
        },
        gates=("pytest: pytest <- ci.yml:8",),
        setup=(
            "pip install --group test -e .",
            "pip install pytest",
        ),
    ),
    Layout(
        row="repairs",
        name="vue: a workflow that repairs",
        files={
            ".github/workflows/autofix.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pnpm run lint --fix
    - run: pnpm run format
""",
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pnpm run format
    - run: pnpm run test
""",
            "pnpm-lock.yaml": "",
            "package.json": '{"scripts": {"format": "prettier --write .", "lint": "eslint ."}}',
        },
        gates=("test: pnpm run test <- ci.yml:7",),
        setup=(
            "get pnpm@latest",
            'CI=true pnpm install --frozen-lockfile --package-import-method=copy --store-dir "$npm_config_cache/pnpm"',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="repairs",
        name="fmt: a repair that must change nothing",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: |
        find src -name '*.cc' | xargs clang-format-21 -i
        git diff --exit-code
    - run: ctest
""",
        },
        gates=(
            "clang-format: find src -name '*.cc' | xargs clang-format-21 -i <- ci.yml:7",
            "ctest: ctest <- ci.yml:9",
        ),
    ),
    Layout(
        row="repairs",
        name="black: generated files that must not change",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: |
        tox -e generate_schema
        git diff --exit-code
    - run: tox -e py
""",
        },
        gates=(
            "tox-generate_schema: tox -e generate_schema <- ci.yml:7",
            "tox-py: tox -e py <- ci.yml:9",
        ),
        setup=(
            "client tox",
            "tox run --notest -e generate_schema",
            "tox run --notest -e py",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="folders of CI's machine",
        name="fmt: a build outside the tree",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {cxx: [g++-4.9, clang++-11], build_type: [Debug, Release], include: [{cxx: clang++-14, build_type: Debug, fuzz: -DFMT_FUZZ=ON}]}}
    steps:
    - run: cmake -E make_directory ${{runner.workspace}}/build
    - run: cmake -DCMAKE_BUILD_TYPE=${{matrix.build_type}} ${{matrix.fuzz}} $GITHUB_WORKSPACE
      working-directory: ${{runner.workspace}}/build
    - run: cmake --build . --parallel $(nproc)
      working-directory: ${{runner.workspace}}/build
    - run: ctest
      working-directory: ${{runner.workspace}}/build
""",
        },
        gates=(
            'ctest: RUNNER_TEMP="$TMPDIR" && GITHUB_WORKSPACE="$PWD" && cmake -E make_directory $RUNNER_TEMP/build && (mkdir -p "$RUNNER_TEMP/build" && cd "$RUNNER_TEMP/build" && cmake -DCMAKE_BUILD_TYPE=Release  $GITHUB_WORKSPACE) && (mkdir -p "$RUNNER_TEMP/build" && cd "$RUNNER_TEMP/build" && cmake --build . --parallel $(nproc)) && (mkdir -p "$RUNNER_TEMP/build" && cd "$RUNNER_TEMP/build" && ctest) <- ci.yml:12',
        ),
    ),
    Layout(
        row="folders of CI's machine",
        name="cJSON: a build folder inside the tree",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {sanitizers: ['ON', 'OFF'], compiler: [GCC, CLANG]}}
    steps:
    - shell: bash
      run: |
        mkdir -p build
        cd build
        cmake .. -DENABLE_SANITIZERS=${{ matrix.sanitizers }}
        make
        make test
""",
        },
        gates=(
            "build/test: mkdir -p build && (cd build && cmake .. -DENABLE_SANITIZERS=OFF) && (cd build && make) && (cd build && make test) <- ci.yml:13",
        ),
    ),
    Layout(
        row="folders of CI's machine",
        name="a virtual environment in the tree, and variables for later steps",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: |
        python -m venv .venv
        . .venv/bin/activate
        .venv/bin/pip install -r requirements.txt
    - run: echo "MODE=fast" >> $GITHUB_ENV
    - run: .venv/bin/pytest -q
""",
            "requirements.txt": "pytest\n",
        },
        gates=("pytest: MODE=fast pytest -q <- ci.yml:11",),
        setup=("pip install -r requirements.txt",),
    ),
    Layout(
        row="tox",
        name="click: tox.ini alone",
        files={
            "tox.ini": """\
[tox]
env_list =
    py3.{13,12,11}
    style
    typing
    docs
""",
        },
        gates=(
            "tox-py: tox run -e py <- tox.ini",
            "tox-style: tox run -e style <- tox.ini",
            "tox-typing: tox run -e typing <- tox.ini",
        ),
        setup=(
            "client tox",
            "tox run --notest -e py,style,typing",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="tox",
        name="tqdm: a plugin chooses by the version",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {python: [3.12, 3.13]}}
    steps:
    - run: pip install 'tox>=4' tox-gh
    - run: tox
""",
        },
        gates=("tox: GITHUB_ACTIONS=true tox <- ci.yml:8",),
        setup=(
            "client tox>=4 tox-gh",
            "env GITHUB_ACTIONS=true tox run --notest",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="tox",
        name="django-debug-toolbar: the plugin also reads a variable",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {python-version: ['3.9', '3.13']}}
    steps:
    - run: pip install tox tox-gh-actions
    - run: tox
      env: {DB_BACKEND: sqlite3}
""",
        },
        gates=("tox: DB_BACKEND=sqlite3 GITHUB_ACTIONS=true tox <- ci.yml:8",),
        setup=(
            "client tox tox-gh-actions",
            "env DB_BACKEND=sqlite3 GITHUB_ACTIONS=true tox run --notest",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="nox",
        name="urllib3: a variable names the session",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {python-version: ['3.12', '3.13'], nox-session: [''], include: [{python-version: '3.12', nox-session: test_integration}]}}
    steps:
    - run: uvx nox -s "$NOX_SESSION"
      env: {NOX_SESSION: "${{ matrix.nox-session != '' && matrix.nox-session || format('test-{0}', matrix.python-version) }}"}
""",
        },
        gates=(
            'nox-test-3.13: NOX_SESSION=test-3.13 nox -s "test-3.13" <- ci.yml:7',
            'nox-test_integration: NOX_SESSION=test_integration nox -s "test_integration" <- ci.yml:7',
        ),
        setup=(
            "client nox",
            "nox --install-only --reuse-existing-virtualenvs -s test-3.13",
            "nox --install-only --reuse-existing-virtualenvs -s test_integration",
        ),
        keeps=(".nox",),
    ),
    Layout(
        row="nox",
        name="packaging: noxfile.py alone",
        files={
            "noxfile.py": """\
import nox

@nox.session(python=['3.12', '3.13'])
def tests(session):
    ...

@nox.session
def lint(session):
    ...

@nox.session
def release(session):
    ...
""",
        },
        gates=(
            "nox-tests: nox -s tests <- noxfile.py",
            "nox-lint: nox -s lint <- noxfile.py",
        ),
        setup=(
            "client nox",
            "nox --install-only --reuse-existing-virtualenvs -s tests lint",
        ),
        keeps=(".nox",),
    ),
    Layout(
        row="nox",
        name="nox from CI, with a session of lint",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pipx run nox -s lint
    - run: pipx run nox -s tests -- -q
""",
        },
        gates=(
            "nox-lint: nox -s lint <- ci.yml:6",
            "nox-tests: nox -s tests -- -q <- ci.yml:7",
        ),
        setup=(
            "client nox",
            "nox --install-only --reuse-existing-virtualenvs -s lint",
            "nox --install-only --reuse-existing-virtualenvs -s tests",
        ),
        keeps=(".nox",),
    ),
    Layout(
        row="pre-commit",
        name="Python PEPs: an action runs the hooks",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: j178/prek-action@v2
""",
            ".github/workflows/test.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: uvx --with tox-uv tox -e py -- -v
""",
            ".pre-commit-config.yaml": """\
repos:
- repo: https://github.com/astral-sh/ruff-pre-commit
  rev: v0.15.20
""",
        },
        gates=(
            'pre-commit: PRE_COMMIT_HOME="$PIP_CACHE_DIR/pre-commit" pre-commit run --all-files <- ci.yml:6',
            "tox-py: tox -e py -- -v <- test.yml:6",
        ),
        setup=(
            "client tox-uv tox",
            "pip install pre-commit",
            "tox run --notest -e py",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="pre-commit",
        name="flask: locked in a group",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: uv run --locked --group pre-commit pre-commit run --all-files
""",
            ".github/workflows/tests.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {include: [{python: '3.13'}, {name: Minimum, python: '3.14', tox: tests-min}, {name: PyPy, python: pypy-3.11, tox: pypy3.11}]}}
    steps:
    - run: uv run --locked --group dev tox run
      env: {TOX_ENV: "${{ matrix.tox || format('py{0}', matrix.python) }}"}
""",
            "uv.lock": "",
            "pyproject.toml": """\
[project]
name = 'Flask'
""",
        },
        gates=(
            'pre-commit: PRE_COMMIT_HOME="$PIP_CACHE_DIR/pre-commit" pre-commit run --all-files <- ci.yml:6',
            "tox-py3.13: tox run -e py3.13 <- tests.yml:7",
        ),
        setup=(
            "client tox",
            "uv sync --inexact --locked --group pre-commit --reinstall-package Flask",
            "uv sync --inexact --locked --group dev --reinstall-package Flask",
            "tox run --notest -e py3.13",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="pre-commit",
        name="black as an action, at the version of its hook",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: psf/black@stable
    - run: pip install -e . pytest
    - run: pytest
""",
            ".pre-commit-config.yaml": """\
repos:
- repo: https://github.com/psf/black-pre-commit-mirror
  rev: 25.1.0
- repo: https://github.com/psf/black
  rev: 24.2.0
""",
            "setup.py": "",
        },
        gates=(
            "black: black --check . <- ci.yml:6",
            "pytest: pytest <- ci.yml:8",
        ),
        setup=(
            "pip install -e . pytest",
            "pip install black==24.2.0",
        ),
    ),
    Layout(
        row="Makefile, justfile, Taskfile",
        name="ci is the first target",
        files={
            "Makefile": """\
test:
	x
ci: test
	y
""",
        },
        gates=("ci: make ci <- Makefile, target ci",),
    ),
    Layout(
        row="Makefile, justfile, Taskfile",
        name="just",
        files={
            "justfile": """\
build:
  x

check: build
  y
""",
        },
        gates=("check: just check <- justfile, target check",),
    ),
    Layout(
        row="Makefile, justfile, Taskfile",
        name="task",
        files={
            "Taskfile.yml": """\
version: '3'
tasks:
  test:
    cmds: [x]
""",
        },
        gates=("test: task test <- Taskfile.yml, target test",),
    ),
    Layout(
        row="lock files of Python",
        name="uv.lock",
        files={
            "tests/test_a.py": "import pytest\n",
            "uv.lock": 'name = "pytest"\n',
            "pyproject.toml": """\
[project]
name = 'a'
[dependency-groups]
dev = []
docs = []
[tool.ruff]
""",
        },
        gates=(
            "ruff: ruff check --no-fix . <- [tool.ruff] in pyproject.toml",
            "pytest: python -m pytest <- test files (tests/test_a.py …)",
        ),
        setup=(
            "uv sync --locked --inexact --group dev --reinstall-package a",
            "uv pip install ruff",
        ),
    ),
    Layout(
        row="lock files of Python",
        name="poetry-core: groups of Poetry",
        files={
            "tests/test_a.py": "import pytest\n",
            "poetry.lock": "",
            "pyproject.toml": """\
[tool.poetry.group.test]
optional = true
[tool.poetry.group.test.dependencies]
pytest = '*'
""",
        },
        gates=("pytest: python -m pytest <- test files (tests/test_a.py …)",),
        setup=(
            "client poetry",
            "poetry install --no-interaction --with test",
        ),
    ),
    Layout(
        row="lock files of Python",
        name="Pipenv",
        files={
            "tests/test_a.py": "import pytest\n",
            "Pipfile": "pytest = '*'\n",
            "Pipfile.lock": "",
        },
        gates=("pytest: python -m pytest <- test files (tests/test_a.py …)",),
        setup=(
            "client pipenv",
            "pipenv sync --dev",
        ),
    ),
    Layout(
        row="extras, groups and requirement files",
        name="extras of setup.cfg",
        files={
            "tests/test_a.py": "import pytest\n",
            "setup.cfg": """\
[options.extras_require]
testing = pytest
docs = sphinx
""",
            "setup.py": "",
        },
        gates=("pytest: python -m pytest <- test files (tests/test_a.py …)",),
        setup=("pip install -e .[testing] pytest",),
    ),
    Layout(
        row="extras, groups and requirement files",
        name="extras of pyproject.toml and a group",
        files={
            "tests/test_a.py": "import pytest\n",
            "pyproject.toml": """\
[project]
optional-dependencies = {tests = ['pytest'], cli = []}
[dependency-groups]
lint = ['ruff==0.9']
""",
        },
        gates=("pytest: python -m pytest <- test files (tests/test_a.py …)",),
        setup=("pip install -e .[tests] ruff==0.9 pytest",),
    ),
    Layout(
        row="extras, groups and requirement files",
        name="healthchecks: requirement files",
        files={
            "tests/test_a.py": "import pytest\n",
            "requirements.txt": "django\n",
            "requirements-dev.txt": "pytest\n",
            "requirements-docs.txt": "sphinx\n",
        },
        gates=("pytest: python -m pytest <- test files (tests/test_a.py …)",),
        setup=("pip install -r requirements-dev.txt -r requirements.txt pytest",),
    ),
    Layout(
        row="Django and unittest",
        name="manage.py",
        files={
            "manage.py": "",
            "requirements.txt": "django\n",
            "app/tests.py": "",
        },
        gates=("django: python manage.py test <- manage.py",),
        setup=("pip install -r requirements.txt",),
    ),
    Layout(
        row="Django and unittest",
        name="pytest-django",
        files={
            "manage.py": "",
            "pytest.ini": "[pytest]\n",
            "requirements.txt": "pytest-django\n",
        },
        gates=("pytest: python -m pytest <- pytest.ini",),
        setup=("pip install -r requirements.txt pytest",),
    ),
    Layout(
        row="Django and unittest",
        name="tests.py at the root",
        files={
            "tests.py": "import unittest\n",
        },
        gates=("unittest: python -m unittest tests <- tests.py",),
    ),
    Layout(
        row="linters that are configured",
        name="rich: mypy never checks the whole folder",
        files={
            "tests/test_a.py": "import pytest\n",
            "mypy.ini": "[mypy]\n",
            "rich/__init__.py": "",
            "docs/__init__.py": "",
        },
        gates=(
            "mypy: mypy rich <- mypy.ini",
            "pytest: python -m pytest <- test files (tests/test_a.py …)",
        ),
        setup=("pip install pytest mypy",),
    ),
    Layout(
        row="linters that are configured",
        name="sources below src",
        files={
            "tests/test_a.py": "import pytest\n",
            "pyproject.toml": """\
[project]
[tool.mypy]
strict = true
""",
            "src/a/__init__.py": "",
        },
        gates=(
            "mypy: mypy src <- [tool.mypy] in pyproject.toml",
            "pytest: python -m pytest <- test files (tests/test_a.py …)",
        ),
        setup=("pip install -e . pytest mypy",),
    ),
    Layout(
        row="linters that are configured",
        name="ruff must not repair",
        files={
            "tests/test_a.py": "import pytest\n",
            "ruff.toml": "fix = true\n",
        },
        gates=(
            "ruff: ruff check --no-fix . <- ruff.toml",
            "pytest: python -m pytest <- test files (tests/test_a.py …)",
        ),
        setup=("pip install pytest ruff",),
    ),
    Layout(
        row="package.json",
        name="commander: npm",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: npm ci
    - run: npm test
    - run: npm run check
""",
            "package-lock.json": "",
            "package.json": '{"scripts": {"test": "jest && npm run check:type", "check": "npm run check:type && npm run check:lint"}}',
        },
        gates=(
            "check: npm run check <- ci.yml:8",
            "test: npm test <- ci.yml:7",
        ),
        setup=("npm ci --no-audit --no-fund",),
        keeps=("node_modules",),
    ),
    Layout(
        row="package.json",
        name="bun",
        files={
            "bun.lock": "",
            "package.json": '{"scripts": {"test": "bun test", "typecheck": "tsc"}, "dependencies": {"a": "1"}}',
        },
        gates=(
            "typecheck: bun run typecheck <- package.json, scripts.typecheck",
            "test: bun run test <- package.json, scripts.test",
        ),
        setup=(
            "get bun@latest",
            'BUN_INSTALL_CACHE_DIR="$npm_config_cache/bun" bun install --frozen-lockfile --backend=copyfile',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="package.json",
        name="Yarn 1",
        files={
            "yarn.lock": "",
            "package.json": '{"scripts": {"test": "mocha", "format:check": "prettier -c ."}}',
        },
        gates=(
            "format-check: yarn run format:check <- package.json, scripts.format:check",
            "test: yarn test <- package.json, scripts.test",
        ),
        setup=(
            "get yarn@1",
            'YARN_CACHE_FOLDER="$npm_config_cache/yarn" yarn install --frozen-lockfile --non-interactive',
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="workspaces",
        name="pnpm, with the tests of all packages",
        files={
            "pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
            "pnpm-workspace.yaml": """\
packages:
- packages/*
- '!packages/old'
""",
            "package.json": "{}",
            "packages/a/package.json": "{}",
            "packages/old/package.json": "{}",
            "packages/a/fixtures/b/package.json": "{}",
        },
        gates=("test: pnpm -r test <- package.json, the tests of its workspaces",),
        setup=(
            "get pnpm@9",
            'CI=true pnpm install --frozen-lockfile --package-import-method=copy --store-dir "$npm_config_cache/pnpm"',
        ),
        keeps=(
            "node_modules",
            "packages/a/node_modules",
        ),
    ),
    Layout(
        row="workspaces",
        name="jest: fixtures are no workspaces",
        files={
            "yarn.lock": "",
            ".yarnrc.yml": "",
            "package.json": '{"packageManager": "yarn@4.18.0", "workspaces": {"packages": ["packages/*"]}, "scripts": {"test": "jest"}}',
            "packages/a/package.json": "{}",
            "e2e/b/package.json": "{}",
        },
        gates=("test: yarn test <- package.json, scripts.test",),
        setup=(
            "get @yarnpkg/cli-dist@4.18.0",
            'YARN_CACHE_FOLDER="$npm_config_cache/berry" YARN_ENABLE_TELEMETRY=0 yarn install --immutable',
        ),
        keeps=(
            "node_modules",
            "packages/a/node_modules",
        ),
    ),
    Layout(
        row="workspaces",
        name="npm workspaces",
        files={
            "package-lock.json": "",
            "package.json": '{"workspaces": ["./packages/*"]}',
            "packages/a/package.json": "{}",
        },
        gates=(
            "test: npm test --workspaces --if-present <- package.json, the tests of its workspaces",
        ),
        setup=("npm ci --no-audit --no-fund",),
        keeps=(
            "node_modules",
            "packages/a/node_modules",
        ),
    ),
    Layout(
        row="Go",
        name="go.mod alone",
        files={
            "go.mod": "module a\n",
        },
        gates=(
            "go-vet: go vet ./... <- go.mod",
            "go-test: go test ./... <- go.mod",
        ),
    ),
    Layout(
        row="Go",
        name="cobra",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {go: [17, 18, 24]}}
    steps:
    - uses: golangci/golangci-lint-action@v6
      with: {args: --verbose}
    - run: go test -v ./...
""",
            "go.mod": "module cobra\n",
        },
        gates=(
            "golangci-lint: golangci-lint run --verbose <- ci.yml:7",
            "go-test: go test -v ./... <- ci.yml:9",
        ),
    ),
    Layout(
        row="Go",
        name="fzf: tests in two languages",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: bundle install
    - run: make lint
    - run: make test
    - run: ruby test/runner.rb --verbose
""",
            "go.mod": "module fzf\n",
            "Makefile": """\
all: x
lint:
	rubocop
test:
	go test ./...
""",
            "Gemfile": "",
        },
        gates=(
            "lint: make lint <- ci.yml:7",
            "test: make test && ruby test/runner.rb --verbose <- ci.yml:8, ci.yml:9",
        ),
        setup=("bundle install",),
    ),
    Layout(
        row="Rust",
        name="Cargo.toml alone",
        files={
            "Cargo.toml": "",
        },
        gates=("cargo-test: cargo test <- Cargo.toml",),
    ),
    Layout(
        row="Rust",
        name="fd: a variable with options",
        files={
            ".github/workflows/ci.yml": """\
on: push
env: {MSRV_FEATURES: --all-features}
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: cargo fmt -- --check
    - run: cargo clippy --locked "${MSRV_FEATURES}"
    - run: cargo test --locked "${MSRV_FEATURES}"
""",
            "Cargo.toml": "",
        },
        gates=(
            "cargo-fmt: MSRV_FEATURES=--all-features cargo fmt -- --check <- ci.yml:7",
            'cargo-clippy: MSRV_FEATURES=--all-features cargo clippy --locked "--all-features" <- ci.yml:8',
            'cargo-test: MSRV_FEATURES=--all-features cargo test --locked "--all-features" <- ci.yml:9',
        ),
    ),
    Layout(
        row="Rust",
        name="serde: the nightly compiler, and lowest versions",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: dtolnay/rust-toolchain@nightly
    - run: cd suite && cargo test --features unstable
""",
            ".github/workflows/minimal.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: cargo generate-lockfile -Z minimal-versions
    - run: cargo check --locked
""",
            "Cargo.toml": "",
            "suite/Cargo.toml": "",
        },
        gates=(
            "suite/cargo-test: export RUSTUP_TOOLCHAIN=nightly && (cd suite && cargo test --features unstable) <- ci.yml:7",
        ),
    ),
    Layout(
        row="C and C++",
        name="jq: processors in a matrix, and an assignment as an argument",
        files={
            ".github/workflows/ci.yml": 'on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    strategy: {matrix: {arch: [amd64, mips, s390x], include: [{arch: amd64, CC: x86_64-linux-gnu}, {arch: mips, CC: mips-linux-gnu}]}}\n    steps:\n    - run: |\n        autoreconf -i\n        ./configure \\\n          --host=${{ matrix.CC }} \\\n          CFLAGS="-O2 -pthread"\n        make -j"$(nproc)"\n    - run: make check VERBOSE=yes\n      if: matrix.arch == \'amd64\'\n',
        },
        gates=(
            'check: autoreconf -i && ./configure --host=x86_64-linux-gnu CFLAGS="-O2 -pthread" && make -j"$(nproc)" && make check VERBOSE=yes <- ci.yml:13',
        ),
    ),
    Layout(
        row="C and C++",
        name="CMake",
        files={
            "CMakeLists.txt": "enable_testing()\n",
        },
        gates=(
            'ctest: cmake -S . -B "$TMPDIR/build" && cmake --build "$TMPDIR/build" -j 2 && ctest --test-dir "$TMPDIR/build" --output-on-failure <- CMakeLists.txt',
        ),
    ),
    Layout(
        row="C and C++",
        name="Meson",
        files={
            "meson.build": "test('a', exe)\n",
        },
        gates=(
            'meson-test: meson setup "$TMPDIR/build" && meson test -C "$TMPDIR/build" --print-errorlogs <- meson.build',
        ),
    ),
    Layout(
        row="several projects in one repository",
        name="folders in CI",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pip install -r requirements.txt
      working-directory: backend
    - run: pytest
      working-directory: backend
    - run: npm ci && npm test
      working-directory: frontend
""",
            "backend/requirements.txt": "",
            "frontend/package.json": "{}",
            "frontend/package-lock.json": "",
        },
        gates=(
            "backend/pytest: (cd backend && pytest) <- ci.yml:8",
            "frontend/test: (cd frontend && npm test) <- ci.yml:10",
        ),
        setup=(
            "pip install -r backend/requirements.txt",
            "cd frontend && npm ci --no-audit --no-fund",
            "pip install pytest",
        ),
        keeps=("frontend/node_modules",),
    ),
    Layout(
        row="several projects in one repository",
        name="defaults of a job",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    defaults: {run: {working-directory: server}}
    steps:
    - run: go vet ./...
    - run: go test ./...
""",
            "server/go.mod": "",
        },
        gates=(
            "server/go-vet: (cd server && go vet ./...) <- ci.yml:7",
            "server/go-test: (cd server && go test ./...) <- ci.yml:8",
        ),
    ),
    Layout(
        row="several projects in one repository",
        name="two languages at the root",
        files={
            "tests/test_a.py": "import pytest\n",
            "requirements.txt": "pytest\n",
            "package-lock.json": "",
            "package.json": '{"scripts": {"lint": "eslint ."}}',
        },
        gates=(
            "pytest: python -m pytest <- test files (tests/test_a.py …)",
            "lint: npm run lint <- package.json, scripts.lint",
        ),
        setup=(
            "pip install -r requirements.txt pytest",
            "npm ci --no-audit --no-fund",
        ),
        keeps=("node_modules",),
    ),
    Layout(
        row="Ruby, JVM and others",
        name="RSpec",
        files={
            "Gemfile": "gem 'rspec'\n",
        },
        gates=("rspec: bundle install && bundle exec rspec <- Gemfile",),
    ),
    Layout(
        row="Ruby, JVM and others",
        name="Maven",
        files={
            "pom.xml": "<project/>\n",
        },
        gates=(
            "mvn: if [ -x mvnw ]; then ./mvnw -B -q verify; else mvn -B -q verify; fi <- pom.xml",
        ),
    ),
    Layout(
        row="Ruby, JVM and others",
        name="Gradle from CI",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: ./gradlew check --no-daemon
""",
            "gradlew": "",
        },
        gates=("gradlew: ./gradlew check --no-daemon <- ci.yml:6",),
    ),
    Layout(
        row="PHP, .NET, Elixir",
        name="Composer",
        files={
            "composer.json": '{"require-dev": {"phpunit/phpunit": "*"}}',
        },
        gates=("phpunit: composer install && vendor/bin/phpunit <- composer.json",),
    ),
    Layout(
        row="PHP, .NET, Elixir",
        name=".NET",
        files={
            "a.sln": "",
        },
        gates=("dotnet-test: dotnet test <- a.sln",),
    ),
    Layout(
        row="PHP, .NET, Elixir",
        name="Mix",
        files={
            "mix.exs": "",
        },
        gates=("mix-test: mix deps.get && mix test <- mix.exs",),
    ),
    Layout(
        row="documents",
        name="the Rust book",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: |
        cd packages/trpl
        cargo build
    - run: mdbook test --library-path packages/trpl/target/debug/deps
    - run: shellcheck --version
    - run: find . -name '*.sh' -print0 | xargs -0 shellcheck
""",
            "packages/trpl/Cargo.toml": "",
        },
        gates=(
            "mdbook: (cd packages/trpl && cargo build) && mdbook test --library-path packages/trpl/target/debug/deps && find . -name '*.sh' -print0 | xargs -0 shellcheck <- ci.yml:9, ci.yml:11",
        ),
    ),
    Layout(
        row="documents",
        name="a site without tests, so that its build judges",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pip install -r requirements.txt
    - run: mkdocs build --strict
""",
            "requirements.txt": "mkdocs\n",
            "mkdocs.yml": "",
        },
        gates=("mkdocs: mkdocs build --strict <- ci.yml:7",),
    ),
    Layout(
        row="documents",
        name="documents alone",
        files={
            "README.md": "hello",
        },
    ),
    Layout(
        row="runners of Python",
        name="Hatch",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pipx install hatch
    - run: hatch fmt --check
    - run: hatch test
""",
        },
        gates=(
            'fmt: HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch fmt --check <- ci.yml:7',
            'test: HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch test <- ci.yml:8',
        ),
        setup=(
            "client hatch",
            'HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch env create',
            'HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch env create hatch-test',
        ),
    ),
    Layout(
        row="runners of Python",
        name="PDM",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pdm install -G test
    - run: pdm run lint
    - run: pdm run test
""",
            "pdm.lock": "",
            "pyproject.toml": "[project]\n",
        },
        gates=(
            "lint: pdm run lint <- ci.yml:7",
            "test: pdm run test <- ci.yml:8",
        ),
        setup=(
            "client pdm",
            "pdm install -G test",
        ),
    ),
    Layout(
        row="runners of Python",
        name="coverage runs the tests",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: uv sync --dev
    - run: uv run coverage run -m pytest tests
""",
            "uv.lock": "",
            "pyproject.toml": """\
[project]
name = 'a'
[dependency-groups]
dev = ['pytest', 'coverage']
""",
        },
        gates=("pytest: coverage run -m pytest tests <- ci.yml:7",),
        setup=(
            "uv sync --inexact --dev --reinstall-package a",
            "uv sync --inexact --reinstall-package a",
        ),
    ),
    Layout(
        row="GitLab CI",
        name="a template that jobs extend",
        files={
            ".gitlab-ci.yml": """\
image: python:3.12
variables: {PIP_CACHE_DIR: .cache, MODE: fast}
.python:
  before_script:
  - pip install -e .[test]
lint:
  extends: .python
  script: [ruff check .]
test:
  extends: .python
  script:
  - pytest -q
deploy:
  stage: deploy
  script: [twine upload dist/*]
""",
            "pyproject.toml": "[project]\n",
        },
        gates=(
            "ruff-check: MODE=fast ruff check --no-fix . <- .gitlab-ci.yml:8",
            "pytest: MODE=fast pytest -q <- .gitlab-ci.yml:12",
        ),
        setup=(
            "pip install -e .[test]",
            "pip install ruff",
            "pip install pytest",
        ),
    ),
    Layout(
        row="GitLab CI",
        name="rules, a folder and a service",
        files={
            ".gitlab-ci.yml": """\
test:
  rules:
  - if: $CI_MERGE_REQUEST_IID
  script:
  - cd web
  - npm ci
  - npm test
tagged:
  rules: [{if: $CI_COMMIT_TAG}]
  script: [make check]
with-database:
  services: ['postgres:16']
  script: [pytest tests/db]
""",
            "web/package.json": "{}",
            "web/package-lock.json": "",
        },
        gates=("web/test: (cd web && npm test) <- .gitlab-ci.yml:7",),
        setup=("cd web && npm ci --no-audit --no-fund",),
        keeps=("web/node_modules",),
    ),
    Layout(
        row="GitLab CI",
        name="included files and !reference",
        files={
            ".gitlab-ci.yml": """\
include:
- local: /.gitlab/test.yml
stages: [test]
""",
            ".gitlab/test.yml": """\
.rust:
  script:
  - cargo fmt --check
test:
  script:
  - !reference [.rust, script]
  - cargo test --locked
""",
            "Cargo.toml": "",
        },
        gates=(
            "cargo-fmt: cargo fmt --check <- test.yml:3",
            "cargo-test: cargo test --locked <- test.yml:7",
        ),
    ),
    Layout(
        row="CircleCI",
        name="a command with a parameter",
        files={
            ".circleci/config.yml": """\
version: 2.1
commands:
  setup:
    parameters: {extra: {type: string, default: test}}
    steps:
    - run: pip install -e .[<< parameters.extra >>]
jobs:
  test:
    docker: [{image: 'cimg/python:3.12'}]
    steps:
    - checkout
    - setup: {extra: dev}
    - run:
        name: tests
        command: |
          . venv/bin/activate
          pytest -q
workflows:
  all:
    jobs:
    - test
    - test-windows
""",
            "setup.py": "",
        },
        gates=("pytest: pytest -q <- config.yml:17",),
        setup=(
            "pip install -e .[dev]",
            "pip install pytest",
        ),
    ),
    Layout(
        row="CircleCI",
        name="a job for tags, a schedule and a database",
        files={
            ".circleci/config.yml": """\
version: 2.1
jobs:
  test:
    docker: [{image: 'cimg/go:1.22'}]
    steps: [checkout, {run: go test ./...}]
  tagged:
    docker: [{image: 'cimg/go:1.22'}]
    steps: [{run: make check}]
  database:
    docker: [{image: 'cimg/go:1.22'}, {image: 'postgres:16'}]
    steps: [{run: make integration}]
workflows:
  push:
    jobs:
    - test
    - database
    - tagged: {filters: {tags: {only: /v.*/}, branches: {ignore: /.*/}}}
""",
            "go.mod": "",
        },
        gates=("go-test: go test ./... <- config.yml:5",),
    ),
    Layout(
        row="CircleCI",
        name="an orb installs, and a folder of the job",
        files={
            ".circleci/config.yml": """\
version: 2.1
orbs: {node: circleci/node@5}
jobs:
  test:
    docker: [{image: 'cimg/node:20'}]
    working_directory: ~/project
    steps:
    - checkout
    - node/install-packages
    - run: npm run lint
    - run: npm test
workflows: {all: {jobs: [test]}}
""",
            "package-lock.json": "",
            "package.json": '{"scripts": {"lint": "eslint .", "test": "jest"}}',
        },
        gates=(
            "lint: npm run lint <- config.yml:10",
            "test: npm test <- config.yml:11",
        ),
        setup=("npm ci --no-audit --no-fund",),
        keeps=("node_modules",),
    ),
    Layout(
        row="variables",
        name="dateutil: a name that a shell cannot export, and a secret",
        files={
            ".github/workflows/ci.yml": """\
on: push
env: {pypi-hosts: pypi.org, TOKEN: '${{ secrets.TOKEN }}'}
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: pip install tox
    - run: tox -e py
    - run: tox -e coverage -- --token $TOKEN
""",
        },
        gates=("tox-py: tox -e py <- ci.yml:8",),
        setup=(
            "client tox",
            "tox run --notest -e py",
        ),
        keeps=(".tox",),
    ),
    Layout(
        row="variables",
        name="aiohttp: a value that only GitHub knows",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    env: {PIP_USER: 1}
    steps:
    - run: pip install ${SDIST_PATH}
      env: {SDIST_PATH: '${{ steps.build.outputs.path }}'}
    - run: pip install -e . -c requirements.txt
    - run: pytest -m 'not autobahn'
""",
            "setup.py": "",
            "requirements.txt": "pytest\n",
        },
        gates=("pytest: pytest -m 'not autobahn' <- ci.yml:10",),
        setup=("pip install -e . -c requirements.txt",),
    ),
    Layout(
        row="variables",
        name="apollo-client: a summary for people",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: npm ci
    - run: npx attw --pack . > $GITHUB_STEP_SUMMARY
    - run: npm test
""",
            "package-lock.json": "",
            "package.json": '{"scripts": {"test": "jest"}}',
        },
        gates=(
            "attw: npx attw --pack . <- ci.yml:7",
            "test: npm test <- ci.yml:8",
        ),
        setup=("npm ci --no-audit --no-fund",),
        keeps=("node_modules",),
    ),
    Layout(
        row="two kinds of CI",
        name="wagtail: tests in one, checks in the other",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {include: [{python: '3.13', django: 'Django>=5.2,<5.3'}, {python: '3.13', django: 'Django>=6.0,<6.1'}]}}
    steps:
    - run: uv sync --extra testing
    - run: uv pip install "${{ matrix.django }}"
    - run: coverage run runtests.py
""",
            ".circleci/config.yml": """\
version: 2.1
jobs:
  backend:
    docker: [{image: 'cimg/python:3.13'}]
    steps:
    - run: pip install uv
    - run: uv sync --extra testing
    - run: ruff check .
    - run: python runtests.py
workflows: {all: {jobs: [backend]}}
""",
            "uv.lock": "",
            "pyproject.toml": """\
[project]
name = 'wagtail'
optional-dependencies = {testing = ['coverage', 'ruff']}
""",
            "runtests.py": "",
        },
        gates=(
            "ruff-check: ruff check --no-fix . <- config.yml:8",
            "coverage: coverage run runtests.py <- ci.yml:9",
        ),
        setup=(
            "uv sync --inexact --extra testing --reinstall-package wagtail",
            "pip install Django>=5.2,<5.3",
        ),
    ),
    Layout(
        row="two kinds of CI",
        name="apollo-client: CI tests a build, so package.json gives the tests",
        files={
            ".circleci/config.yml": """\
version: 2.1
jobs:
  tests:
    docker: [{image: 'cimg/node:24'}]
    steps:
    - attach_workspace: {at: /tmp/workspace}
    - run: npm run ci:precheck
    - run: npm run test:ci
  formatting:
    docker: [{image: 'cimg/node:24'}]
    steps:
    - run: npm ci
    - run: npm run ci:precheck
    - run: npm run check:format
workflows: {all: {jobs: [tests, formatting]}}
""",
            "package-lock.json": "",
            "package.json": '{"scripts": {"ci:precheck": "node scripts/ready.js", "check:format": "prettier --check .", "test": "jest"}}',
        },
        gates=(
            "check-format: npm run check:format <- config.yml:14",
            "test: npm test <- package.json, scripts.test",
        ),
        setup=("npm ci --no-audit --no-fund",),
        keeps=("node_modules",),
    ),
    Layout(
        row="special builds",
        name="tokio: loom and Miri",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: cargo nextest run
""",
            ".github/workflows/loom.yml": """\
on: push
env: {RUSTFLAGS: --cfg loom}
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: cargo miri setup
    - run: cargo test --lib --release
""",
            "Cargo.toml": "",
        },
        gates=("cargo-nextest: cargo nextest run <- ci.yml:6",),
    ),
    Layout(
        row="special builds",
        name="libuv: sanitizers, and a subshell",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: |
        ./autogen.sh
        mkdir build
        (cd build && ../configure)
    - run: make -C build distcheck
""",
            ".github/workflows/sanitizer.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: cmake -B build -DASAN=ON && cmake --build build
    - run: ./build/uv_run_tests
""",
        },
        gates=(
            "distcheck: ./autogen.sh && mkdir build && (cd build && ../configure) && make -C build distcheck <- ci.yml:10",
        ),
    ),
    Layout(
        row="special builds",
        name="zlib: a build folder outside the tree",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: ./configure
    - run: make test
""",
            ".github/workflows/cmake.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: cmake -S . -B ../build
    - run: ctest
      working-directory: ../build
""",
        },
        gates=("test: ./configure && make test <- ci.yml:7",),
    ),
    Layout(
        row="scripts of package.json",
        name="undici: a build in its name is no test",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: npm install
    - run: npm run build:node
    - run: npm run test:unit
""",
            "package.json": '{"scripts": {"build:node": "esbuild index.js", "test:unit": "node --test"}}',
        },
        gates=("test-unit: npm run build:node && npm run test:unit <- ci.yml:8",),
    ),
    Layout(
        row="scripts of package.json",
        name="prettier: a program of a package, and folders with packages",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: yarn install --immutable
    - run: yarn install --immutable
      working-directory: website
    - run: yarn lint:eslint
    - run: yarn c8 yarn test
""",
            "yarn.lock": "",
            ".yarnrc.yml": "",
            "website/yarn.lock": "",
            "website/package.json": "{}",
            "package.json": '{"packageManager": "yarn@4.17.1", "scripts": {"lint:eslint": "eslint .", "test": "jest"}}',
        },
        gates=(
            "lint-eslint: yarn lint:eslint <- ci.yml:9",
            "c8: yarn c8 yarn test <- ci.yml:10",
        ),
        setup=(
            "get @yarnpkg/cli-dist@4.17.1",
            'cd website && YARN_CACHE_FOLDER="$npm_config_cache/berry" YARN_ENABLE_TELEMETRY=0 yarn install --immutable',
            "get @yarnpkg/cli-dist@4.17.1",
            'YARN_CACHE_FOLDER="$npm_config_cache/berry" YARN_ENABLE_TELEMETRY=0 yarn install --immutable',
        ),
        keeps=(
            "website/node_modules",
            "node_modules",
        ),
    ),
    Layout(
        row="scripts of package.json",
        name="mkdocs: scripts of Hatch say in front what they do",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {python-version: ['3.12', '3.13']}}
    steps:
    - run: hatch run +py=${{ matrix.python-version }} test:with-coverage
    - run: hatch run types:check
    - run: hatch run style:lint
""",
        },
        gates=(
            'types-check: HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch run types:check <- ci.yml:8',
            'style-lint: HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch run style:lint <- ci.yml:9',
            'test-with-coverage: HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch run +py=3.13 test:with-coverage <- ci.yml:7',
        ),
        setup=(
            "client hatch",
            'HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch env create test',
            'HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch env create types',
            'HATCH_DATA_DIR="$VIRTUAL_ENV/hatch" hatch env create style',
        ),
    ),
    Layout(
        row="packages from elsewhere",
        name="pydantic: a package that another job built, and one from git",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: uv sync
    - run: make test
""",
            ".github/workflows/core.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - uses: actions/download-artifact@v8
    - run: uv sync
    - run: uv pip install core --no-index --find-links dist
    - run: uv run --no-sync pytest tests
""",
            ".github/workflows/typing.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
    - run: uv sync
    - run: uv pip install 'typing-extensions @ git+https://example.org/typing_extensions.git'
    - run: make test -B
""",
            "uv.lock": "",
            "pyproject.toml": """\
[project]
name = 'pydantic'
""",
            "Makefile": """\
all: x
test:
	pytest
""",
        },
        gates=("test: make test <- ci.yml:7",),
        setup=("uv sync --inexact --reinstall-package pydantic",),
    ),
    Layout(
        row="packages from elsewhere",
        name="pluggy: the unreleased pytest",
        files={
            ".github/workflows/ci.yml": """\
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    strategy: {matrix: {include: [{python: '3.10', tox_env: py310-pytestmain}, {python: '3.13', tox_env: py313}]}}
    steps:
    - run: pip install tox
    - run: tox -e ${{ matrix.tox_env }}
""",
        },
        gates=("tox-py313: tox -e py313 <- ci.yml:8",),
        setup=(
            "client tox",
            "tox run --notest -e py313",
        ),
        keeps=(".tox",),
    ),
)
