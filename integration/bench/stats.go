package main

import (
	"math/rand/v2"
	"slices"
)

// enoughPairs is from how many rounds on a ratio gets an interval.
const enoughPairs = 20

// A Ratio compares two sides that took turns.
type Ratio struct {
	Value float64 `json:"value"` // the median of the rounds' ratios
	// Interval is the 95 % bootstrap interval of Value, nil if there were too
	// few rounds for one.
	Interval *[2]float64 `json:"interval,omitempty"`
	Rounds   int         `json:"rounds"`
}

// ratioOf compares samples of the same rounds: ours[i] / theirs[i].
func ratioOf(ours, theirs []float64) *Ratio {
	quotients := make([]float64, len(ours))
	for i := range ours {
		quotients[i] = ours[i] / theirs[i]
	}
	r := &Ratio{Value: median(quotients), Rounds: len(ours)}
	if len(ours) >= enoughPairs {
		low, high := bootstrap(quotients)
		r.Interval = &[2]float64{low, high}
	}
	return r
}

// low returns the end of the interval that a goal is held against.
func (r *Ratio) low() float64 {
	if r.Interval == nil {
		return r.Value
	}
	return r.Interval[0]
}

// median returns the middle of the samples, of an even number the mean of the
// middle two. There must be one.
func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// resamples makes the ends of an interval stable to a thousandth.
const resamples = 10_000

// bootstrap returns the 95 % percentile interval of the median of samples
// (Efron, Bootstrap Methods: Another Look at the Jackknife, 1979). The same
// samples give the same interval.
func bootstrap(samples []float64) (low, high float64) {
	random := rand.New(rand.NewPCG(1, 2))
	medians := make([]float64, resamples)
	drawn := make([]float64, len(samples))
	for i := range medians {
		for k := range drawn {
			drawn[k] = samples[random.IntN(len(samples))]
		}
		medians[i] = median(drawn)
	}
	slices.Sort(medians)
	return medians[resamples*25/1000], medians[resamples*975/1000]
}
