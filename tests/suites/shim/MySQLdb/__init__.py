"""PyMySQL under the name MySQLdb.

Eventlet's database tests import MySQLdb (the mysqlclient package), which has no Linux wheels and needs
MariaDB's headers. PyMySQL speaks the same protocol to the same server behind the same interface.
"""

import sys

import pymysql
import pymysql.connections
import pymysql.converters
import pymysql.cursors

pymysql.install_as_MySQLdb()
# Without these the submodules would be loaded a second time, with exception classes of their own.
for _name in ("connections", "constants", "converters", "cursors", "err"):
    sys.modules[f"MySQLdb.{_name}"] = sys.modules[f"pymysql.{_name}"]
