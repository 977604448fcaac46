package mount

import "time"

// SetPatience sets how long requests may wait until a worker counts as hung.
func SetPatience(c *Config, d time.Duration) { c.patience = d }

// AtInit sets what is called before a worker keeps the INIT and before it answers
// it.
func AtInit(fn func(moment string)) { atInit = fn }

// WithoutResend has a worker ask the kernel for what Linux before 6.9 can do.
func WithoutResend() { noResend = true }
