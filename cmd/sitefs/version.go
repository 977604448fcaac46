package main

import "runtime/debug"

// version is the module's version, with the revision it was built from when Go
// recorded one; `go run` and a plain checkout are "devel".
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
