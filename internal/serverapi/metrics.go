package serverapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nationtech/fleetctl/internal/identity/role"
)

// scrape serves the metrics of this process.
func (h *handlers) scrape(w http.ResponseWriter, r *http.Request) {
	if h.cfg.Scraper != nil {
		if _, err := h.cfg.Scraper.Authenticate(r); err == nil {
			h.cfg.Scrape.ServeHTTP(w, r)
			return
		}
	}
	if _, err := h.authorize(r, role.Viewer); err != nil {
		h.answer(w, r, nil, err)
		return
	}
	h.cfg.Scrape.ServeHTTP(w, r)
}

// counted counts the requests to next, and times them to the first byte of the
// answer: logs that are followed go on for hours.
func (h *handlers) counted(next http.Handler, to prometheus.Registerer) (http.Handler, error) {
	if to == nil {
		return next, nil
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fleet_api_requests_total", Help: "Requests to the HTTPS API and the pages, by route and status code.",
	}, []string{"route", "code"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "fleet_api_first_byte_seconds", Help: "From a request's arrival to the first byte of its answer.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 10),
	}, []string{"route"})
	inWork := func(name, help string, slots chan struct{}) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(len(slots)) })
	}
	for _, c := range []prometheus.Collector{requests, seconds,
		inWork("fleet_api_requests_in_flight", "Requests that the API works on.", h.busy),
		inWork("fleet_api_streams_open", "Logs, shells and forwarded ports that are open.", h.long),
	} {
		if err := to.Register(c); err != nil {
			return nil, err
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		out := &firstByte{ResponseWriter: w}
		next.ServeHTTP(out, r)
		route := r.Pattern // as the muxes left it; no part of it is the client's
		if route == "" {
			route = "none"
		}
		out.begin(http.StatusOK) // of an answer without a body
		requests.WithLabelValues(route, strconv.Itoa(out.code)).Inc()
		seconds.WithLabelValues(route).Observe(out.at.Sub(begun).Seconds())
	}), nil
}

// firstByte notes when an answer begins, and its status.
type firstByte struct {
	http.ResponseWriter
	code int
	at   time.Time
}

func (f *firstByte) begin(code int) {
	if f.code == 0 {
		f.code, f.at = code, time.Now()
	}
}

func (f *firstByte) WriteHeader(code int) {
	f.begin(code)
	f.ResponseWriter.WriteHeader(code)
}

func (f *firstByte) Write(p []byte) (int, error) {
	f.begin(http.StatusOK)
	return f.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (f *firstByte) Unwrap() http.ResponseWriter { return f.ResponseWriter }
