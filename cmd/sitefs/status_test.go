package main

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/sitefs/sitefs/store/bytecode"
)

func TestDescribeBytecode(t *testing.T) {
	tests := []struct {
		name   string
		status bytecode.Status
		want   []string
	}{
		{"nothing yet", bytecode.Status{}, []string{"0 found, 0 compiled on demand, 0 ahead of it, 0 failed"}},
		{"well", bytecode.Status{Hits: 9, Compiled: 3, Ahead: 200}, []string{"9 found, 3 compiled on demand, 200 ahead of it, 0 failed"}},
		{"off", bytecode.Status{Declined: 7, Off: "the disk is full"}, []string{
			"0 found, 0 compiled on demand, 0 ahead of it, 0 failed, 7 left to Python",
			"nothing is compiled now: the disk is full",
		}},
		{"failures", bytecode.Status{Failed: 1, Declined: 1, Failures: []bytecode.Failure{
			{Path: "a/t.py", Reason: "SyntaxError: invalid syntax"}, {Reason: "no answer"},
		}}, []string{
			"0 found, 0 compiled on demand, 0 ahead of it, 1 failed, 1 left to Python",
			"a/t.py: SyntaxError: invalid syntax",
			"no answer",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			told, err := json.Marshal(tt.status)
			if err != nil {
				t.Fatal(err)
			}
			if got := describeBytecode(told); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
		})
	}
	for _, told := range []string{"", `"of another version"`} {
		if got := describeBytecode(json.RawMessage(told)); got != nil {
			t.Errorf("of %q it says %q, want nothing", told, got)
		}
	}
}
