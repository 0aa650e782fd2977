package sqlstore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/b24go/b24oauth/internal/setup"
)

// What has to be done about an answer. {table} is the table's name.
const (
	makeTheTable = "make the table {table} with Store.CreateTable, or by hand as the package's documentation shows, and check Store.Table"
	makeItSo     = "the table {table} is not the one of the package's documentation: change it, or make that one with Store.CreateTable after this one was renamed"
	grantRights  = "grant the program's user SELECT, INSERT, UPDATE and DELETE on the whole table {table}"
	checkDialect = "check that the Dialect given to New is that of this database, and that its release is supported"
	checkAddress = "check the user, the password and the database that the program connects with"
	letItWrite   = "connect to the primary, with a user and settings that let it write"
	letItOpen    = "let the program's user write to the file and to its folder, check the path, and set no query_only"
	restoreIt    = "restore the database from a backup"
)

// The answers that stay until somebody changes the table, the rights, the
// address or the program. What is not here is taken as passing, and so is what
// a failover may cause: a server or a session that is read-only.

// By PostgreSQL's documentation, appendix A, "PostgreSQL Error Codes".
var postgresSetup = map[string]string{
	"42P01": makeTheTable, // undefined_table
	"3F000": makeTheTable, // invalid_schema_name, of Store.Table
	"42703": makeItSo,     // undefined_column
	"42804": makeItSo,     // datatype_mismatch
	"42809": makeItSo,     // wrong_object_type
	"42P10": makeItSo,     // invalid_column_reference: no PRIMARY KEY
	"428C9": makeItSo,     // generated_always
	"22001": makeItSo,     // string_data_right_truncation
	"23502": makeItSo,     // not_null_violation
	"22P05": makeItSo,     // untranslatable_character: the encoding is not UTF8
	"42501": grantRights,  // insufficient_privilege
	"42601": checkDialect, // syntax_error
	"42883": checkDialect, // undefined_function
	"42704": checkDialect, // undefined_object: a type
	"42P02": checkDialect, // undefined_parameter
	"28000": checkAddress, // invalid_authorization_specification: no such role, no such line in pg_hba.conf
	"28P01": checkAddress, // invalid_password
	"3D000": checkAddress, // invalid_catalog_name: no such database
	"XX001": restoreIt,    // data_corrupted
	"XX002": restoreIt,    // index_corrupted
}

// By the MySQL 8.4 Error Message Reference, "Server Error Message Reference",
// and MariaDB's "MariaDB Error Code Reference".
var mysqlSetup = map[string]string{
	"1146": makeTheTable, // ER_NO_SUCH_TABLE
	"1054": makeItSo,     // ER_BAD_FIELD_ERROR
	"1048": makeItSo,     // ER_BAD_NULL_ERROR
	"1364": makeItSo,     // ER_NO_DEFAULT_FOR_FIELD
	"1366": makeItSo,     // ER_TRUNCATED_WRONG_VALUE_FOR_FIELD: its character set
	"1406": makeItSo,     // ER_DATA_TOO_LONG
	"1288": makeItSo,     // ER_NON_UPDATABLE_TABLE: a view
	"1348": makeItSo,     // ER_NONUPDATEABLE_COLUMN
	"1356": makeItSo,     // ER_VIEW_INVALID
	"1471": makeItSo,     // ER_NON_INSERTABLE_TABLE
	"1906": makeItSo,     // ER_WARNING_NON_DEFAULT_VALUE_FOR_GENERATED_COLUMN, MariaDB
	"3105": makeItSo,     // ER_NON_DEFAULT_VALUE_FOR_GENERATED_COLUMN, MySQL
	"1142": grantRights,  // ER_TABLEACCESS_DENIED_ERROR
	"1143": grantRights,  // ER_COLUMNACCESS_DENIED_ERROR
	"1064": checkDialect, // ER_PARSE_ERROR
	"1193": checkDialect, // ER_UNKNOWN_SYSTEM_VARIABLE
	"1305": checkDialect, // ER_SP_DOES_NOT_EXIST: a function
	"1630": checkDialect, // ER_FUNC_INEXISTENT_NAME_COLLISION
	"1044": checkAddress, // ER_DBACCESS_DENIED_ERROR
	"1045": checkAddress, // ER_ACCESS_DENIED_ERROR
	"1046": checkAddress, // ER_NO_DB_ERROR
	"1049": checkAddress, // ER_BAD_DB_ERROR
	"1130": checkAddress, // ER_HOST_NOT_PRIVILEGED
	"1251": checkAddress, // ER_NOT_SUPPORTED_AUTH_MODE
	"1524": checkAddress, // ER_PLUGIN_IS_NOT_LOADED: that of the user's password
	"1698": checkAddress, // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
	"1820": checkAddress, // ER_MUST_CHANGE_PASSWORD
	"1862": checkAddress, // ER_MUST_CHANGE_PASSWORD_LOGIN
	"3118": checkAddress, // ER_ACCOUNT_HAS_BEEN_LOCKED, MySQL
	"4151": checkAddress, // ER_ACCOUNT_HAS_BEEN_LOCKED, MariaDB
}

// By SQLite's "Result and Error Codes", and for SQLITE_ERROR, which is all of
// what is wrong with a statement, by the words that sqliteCode finds in it.
var sqliteSetup = map[string]string{
	"3":  letItOpen, // SQLITE_PERM
	"8":  letItOpen, // SQLITE_READONLY
	"14": letItOpen, // SQLITE_CANTOPEN
	"23": letItOpen, // SQLITE_AUTH
	"11": restoreIt, // SQLITE_CORRUPT
	"26": restoreIt, // SQLITE_NOTADB

	"no such table":                        makeTheTable,
	"unknown database":                     makeTheTable, // a schema
	"no such column":                       makeItSo,
	"has no column named":                  makeItSo,
	"generated column":                     makeItSo,
	"because it is a view":                 makeItSo,
	"ON CONFLICT clause does not match":    makeItSo, // no PRIMARY KEY
	"NOT NULL constraint failed":           makeItSo,
	"no such function":                     checkDialect,
	"\": syntax error":                     checkDialect,
	"unrecognized token":                   checkDialect,
	"attempt to write a readonly database": letItOpen,
	"unable to open database file":         letItOpen,
	"file is not a database":               restoreIt,
	"database disk image is malformed":     restoreIt,
}

// sqlitePhrases are the words among them.
var sqlitePhrases = slices.DeleteFunc(slices.Sorted(maps.Keys(sqliteSetup)), func(code string) bool { return !strings.Contains(code, " ") })

// explained returns err with what has to be done about it, if that is known, as
// one of the setup if it is.
func (s *Store) explained(err error) error {
	d := s.dialect
	if err == nil {
		return nil
	}
	if d.pooled(err) {
		return lastingError{fmt.Errorf("%w; a pooler such as PgBouncer loses prepared statements: add default_query_exec_mode=exec to pgx's connection string, or set max_prepared_statements of PgBouncer 1.21 or later", err)}
	}
	code, _ := dialects[d].code(err)
	if remedy := dialects[d].remedies[code]; remedy != "" {
		return fmt.Errorf("%w; %s", err, remedy)
	}
	if remedy := d.remedy(err); remedy != "" {
		return setup.Wrong(fmt.Errorf("%w; %s", err, strings.ReplaceAll(remedy, "{table}", s.table())))
	}
	return err
}

// remedy returns what has to be done about an answer that stays, "" if it is
// none. A database that is not the dialect's answers by its own codes that it
// did not understand a statement, or has not got what that needs.
func (d Dialect) remedy(err error) string {
	if code, answered := dialects[d].code(err); answered {
		return dialects[d].setup[code]
	}
	for _, other := range []Dialect{PostgreSQL, MySQL, SQLite} {
		code, _ := dialects[other].code(err)
		switch dialects[other].setup[code] {
		case makeTheTable, makeItSo, checkDialect:
			return fmt.Sprintf("%v has answered, and New was given the Dialect %v: %s", other, d, checkDialect)
		}
	}
	return ""
}
