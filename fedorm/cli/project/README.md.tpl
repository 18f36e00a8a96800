# $name

Users, their orders, and the inventory: three services with a database each, used as if they were one, with
[fedorm](https://pypi.org/project/fedorm).

```sh
python -m venv .venv && . .venv/bin/activate
pip install -e '.[test]'

fedorm migrate upgrade            # make the tables of all services
python -m $package                # place an order, and print all of them
pytest                            # after each test the databases are as before it
```

| what | where |
| --- | --- |
| where the services' databases are | `fedorm.toml`; commands find it from any folder below |
| the models, and how they belong together | `$package/models.py` |
| what is asked and written | `$package/orders.py` |
| a history of revisions for each service | `migrations/<service>/versions/` |

## Day to day

```sh
fedorm doctor                     # how the services are
fedorm sql "select u.email, o.quantity from users.users u join orders.orders o on o.user_id = u.id"

fedorm migrate revision --service orders -m "Add a total" --autogenerate    # after a change of the models
fedorm migrate upgrade
fedorm migrate check              # models and databases agree: ends with 0; good for your CI

fedorm --install-completion       # for bash, zsh or fish
fedorm --help                     # and of each command, with examples
```

## Other databases

Change `url` in `fedorm.toml`, install the extra that the service needs (`fedorm[postgresql]`, `fedorm[mysql]`), and write its
first revision anew, as databases differ in types: remove `migrations/<service>/versions/*.py`, and then
`fedorm migrate revision --service <service> -m "Make the tables" --autogenerate`.
