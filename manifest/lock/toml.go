package lock

import (
	"fmt"
	"strconv"
	"time"
)

// A FieldError is a value of a lock file that is missing or wrong.
type FieldError struct {
	Path string // such as packages[0].wheels[2].size
	Err  error
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %v", e.Path, e.Err) }
func (e *FieldError) Unwrap() error { return e.Err }

// An errorList keeps the first error, so that a reader of many fields
// looks for one once, at its end.
type errorList struct{ first error }

// A table is a TOML table that knows where in the file it stands.
type table struct {
	parent *table
	key    string
	index  int // in the parent's array, or -1
	values map[string]any
	errs   *errorList
}

// path names the table, or with a key one value of it.
func (t *table) path(key string) string {
	if t.parent == nil {
		return key
	}
	name := t.key
	if t.index >= 0 {
		name += "[" + strconv.Itoa(t.index) + "]"
	}
	if key != "" {
		name += "." + key
	}
	return t.parent.path(name)
}

// failf notes that the value at key, or the table itself if key is "", is wrong.
func (t *table) failf(key, format string, args ...any) {
	if t.errs.first == nil {
		t.errs.first = &FieldError{Path: t.path(key), Err: fmt.Errorf(format, args...)}
	}
}

// value reads an optional value; its zero value is returned when there is none.
func value[T any](t *table, key string) (v T, ok bool) {
	found, ok := t.values[key]
	if !ok {
		return v, false
	}
	v, ok = found.(T)
	if !ok {
		t.failf(key, "found %s, want %s", kind(found), kind(v))
	}
	return v, ok
}

func required[T any](t *table, key string) (v T, ok bool) {
	if _, there := t.values[key]; !there {
		t.failf(key, "missing, want %s", kind(v))
		return v, false
	}
	return value[T](t, key)
}

// parsed reads an optional string and what parse makes of it.
func parsed[T any](t *table, key string, parse func(string) (T, error)) (v T, ok bool) {
	s, ok := value[string](t, key)
	if !ok {
		return v, false
	}
	v, err := parse(s)
	if err != nil {
		t.failf(key, "%w", err)
		return v, false
	}
	return v, true
}

// list reads an optional array whose elements are all of one type.
func list[T any](t *table, key string) []T {
	array, _ := value[[]any](t, key)
	elements := make([]T, 0, len(array))
	for i, found := range array {
		v, ok := found.(T)
		if !ok {
			t.failf(fmt.Sprintf("%s[%d]", key, i), "found %s, want %s", kind(found), kind(v))
			return nil
		}
		elements = append(elements, v)
	}
	return elements
}

// tables reads an optional array of tables.
func (t *table) tables(key string) []table {
	elements := list[map[string]any](t, key)
	tables := make([]table, len(elements))
	for i, values := range elements {
		tables[i] = table{parent: t, key: key, index: i, values: values, errs: t.errs}
	}
	return tables
}

// table reads an optional table, nil if there is none.
func (t *table) table(key string) *table {
	values, ok := value[map[string]any](t, key)
	if !ok {
		return nil
	}
	return &table{parent: t, key: key, index: -1, values: values, errs: t.errs}
}

// kind says in TOML's words what v is. (JSON's numbers are floats here.)
func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	case time.Time:
		return "a date and time"
	case nil:
		return "null"
	default:
		return "a date or time without offset"
	}
}
