package session

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/sitefs/sitefs/manifest/digest"
)

// TestDigestRequest: every field of a request, those of a later version too, is
// part of what names the environment.
func TestDigestRequest(t *testing.T) {
	seen := map[digest.Digest]string{}
	note := func(name string, r Request) {
		d, err := (&inputs{request: r}).digest(nil)
		if err != nil {
			t.Fatal(err)
		}
		if other, twice := seen[d]; twice {
			t.Errorf("%s gives the digest of %s, want one of its own", name, other)
		}
		seen[d] = name
	}
	note("the zero request", Request{})
	eachField(t, reflect.TypeFor[Request](), nil, func(name string, index []int) {
		var r Request
		set(t, reflect.ValueOf(&r).Elem().FieldByIndex(index))
		note(name, r)
	})
}

// eachField calls fn for every field that is no struct, with its path.
func eachField(t *testing.T, typ reflect.Type, above []int, fn func(name string, index []int)) {
	t.Helper()
	for i := range typ.NumField() {
		f := typ.Field(i)
		index := append(append([]int{}, above...), i)
		if f.Type.Kind() == reflect.Struct {
			eachField(t, f.Type, index, fn)
			continue
		}
		fn(fmt.Sprintf("%s.%s", typ.Name(), f.Name), index)
	}
}

func set(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(1)
	case reflect.String:
		v.SetString("x")
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.ValueOf("x")))
	default:
		t.Fatalf("a field of kind %s: say here how to set it", v.Kind())
	}
}
