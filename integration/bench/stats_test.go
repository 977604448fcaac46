package main

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	tests := []struct {
		samples []float64
		want    float64
	}{
		{[]float64{7}, 7},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 100, 2}, 3},
	}
	for _, tt := range tests {
		given := append([]float64(nil), tt.samples...)
		if got := median(tt.samples); got != tt.want {
			t.Errorf("median(%v) = %v, want %v", given, got, tt.want)
		}
		for i := range given {
			if tt.samples[i] != given[i] {
				t.Fatalf("median changed its samples: %v, were %v", tt.samples, given)
			}
		}
	}
}

// repeat returns n samples that go through values.
func repeat(n int, values ...float64) []float64 {
	samples := make([]float64, n)
	for i := range samples {
		samples[i] = values[i%len(values)]
	}
	return samples
}

func TestRatioOf(t *testing.T) {
	t.Run("pairs", func(t *testing.T) {
		// A machine that slows down for everybody changes no ratio.
		r := ratioOf([]float64{1, 10, 100}, []float64{2, 20, 200})
		if r.Value != 0.5 || r.Rounds != 3 {
			t.Errorf("ratio %v of %d rounds, want 0.5 of 3", r.Value, r.Rounds)
		}
	})
	t.Run("few rounds have no interval", func(t *testing.T) {
		r := ratioOf(repeat(enoughPairs-1, 1), repeat(enoughPairs-1, 2))
		if r.Interval != nil || r.low() != r.Value {
			t.Errorf("interval %v, low end %v, want none and %v", r.Interval, r.low(), r.Value)
		}
	})
	t.Run("without spread the interval is a point", func(t *testing.T) {
		r := ratioOf(repeat(enoughPairs, 3), repeat(enoughPairs, 2))
		if r.Interval == nil || *r.Interval != [2]float64{1.5, 1.5} {
			t.Errorf("interval %v, want 1.5 to 1.5", r.Interval)
		}
	})
	t.Run("the interval holds the value", func(t *testing.T) {
		r := ratioOf(repeat(25, 0.8, 0.9, 1, 1.1, 1.2), repeat(25, 1))
		if r.Interval == nil {
			t.Fatal("no interval")
		}
		low, high := r.Interval[0], r.Interval[1]
		if low >= r.Value || high <= r.Value || low < 0.8 || high > 1.2 {
			t.Errorf("interval [%v, %v] of %v, want it around the value and within the samples", low, high, r.Value)
		}
		if r.low() != low {
			t.Errorf("low() = %v, want %v", r.low(), low)
		}
	})
}

// TestBootstrapCovers draws samples whose median is known: 95 % of the intervals
// must hold it.
func TestBootstrapCovers(t *testing.T) {
	const trials = 60
	covered := 0
	for trial := range trials {
		samples := make([]float64, 25)
		for i := range samples {
			// The golden ratio's multiples are spread evenly over [0, 1), median 0.5.
			_, samples[i] = math.Modf(float64(trial*997+i*i*31+1) * math.Phi)
		}
		if low, high := bootstrap(samples); low <= 0.5 && 0.5 <= high {
			covered++
		}
	}
	if covered < trials*90/100 {
		t.Errorf("%d of %d intervals hold the median, want about 95 %%", covered, trials)
	}
}

func TestMet(t *testing.T) {
	wide := &Ratio{Value: 1.05, Interval: &[2]float64{0.99, 1.1}, Rounds: enoughPairs}
	tests := []struct {
		name string
		row  Row
		want bool
	}{
		{"value", Row{Sitefs: 0.05, Goal: atMost(0.06)}, true},
		{"value at the goal", Row{Sitefs: 0.06, Goal: atMost(0.06)}, true},
		{"value over", Row{Sitefs: 0.07, Goal: atMost(0.06), Ratio: wide}, false},
		{"ratio by the low end", Row{Ratio: wide, Goal: ratioAtMost(1)}, true},
		{"ratio over", Row{Ratio: wide, Goal: ratioAtMost(0.9)}, false},
		{"ratio without an interval", Row{Ratio: &Ratio{Value: 1.05}, Goal: ratioAtMost(1)}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.row.met(); got != tt.want {
				t.Errorf("met() = %v, want %v", got, tt.want)
			}
		})
	}
}
