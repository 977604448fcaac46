package manifest

import (
	"fmt"
	"testing"

	"github.com/sitefs/sitefs/manifest/wheel"
)

// benchWheels returns as many wheels, files and shared directories as the
// environment of the issue has: 244 wheels, 46,000 files.
func benchWheels(s *memory) []Wheel {
	var wheels []Wheel
	for i := range 244 {
		name := fmt.Sprintf("package-%03d", i)
		var files []wheel.File
		for j := range 187 {
			files = append(files, s.lib(fmt.Sprintf("package_%03d/sub%02d/module%03d.py", i, j%12, j), name))
		}
		if i%10 == 0 {
			files = append(files, s.lib(fmt.Sprintf("google/cloud/service%03d/__init__.py", i), name))
		}
		w := s.add(name, files, func(info *wheel.Info) {
			info.RequiresDist = []string{fmt.Sprintf("package-%03d>=1", (i+1)%244), "gone; python_version < '3'"}
			if i%2 == 0 {
				info.EntryPoints = []wheel.EntryPoint{{Name: name, Module: "m", Attr: "main"}}
			}
		})
		w.Requested = i%8 == 0
		wheels = append(wheels, w)
	}
	return wheels
}

// BenchmarkCompileKnown is a new lock over known wheels.
func BenchmarkCompileKnown(b *testing.B) {
	s := newMemory()
	wheels := benchWheels(s)
	size := len(compile(b, s, wheels...).Tree)
	for b.Loop() {
		compile(b, s, wheels...)
	}
	b.ReportMetric(float64(size), "bytes/tree")
}

// BenchmarkCompileNew is the same with no wheel known for the layout.
func BenchmarkCompileNew(b *testing.B) {
	s := newMemory()
	wheels := benchWheels(s)
	for b.Loop() {
		clear(s.tables)
		compile(b, s, wheels...)
	}
}
