// Demoapp is the web app that tests and the demo deploy: one static binary in
// an image of nothing else. It says which version it is and where it runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "tool" {
		code, err := tool(os.Args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, "demoapp:", err)
		}
		os.Exit(code)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demoapp:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) > 2 && os.Args[1] == "exists" { // as a health check's command
		_, err := os.Stat(os.Args[2])
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if strings.HasPrefix(os.Getenv("APP_VERSION"), "crash") {
		return errors.New("this version crashes")
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "version %s on %s\n", os.Getenv("APP_VERSION"), host)
	})
	mux.HandleFunc("POST /print/{line}", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(r.PathValue("line"))
	})
	mux.HandleFunc("GET /env/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.Getenv(r.PathValue("name")))
	})
	mux.HandleFunc("GET /file/{path...}", func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile("/" + r.PathValue("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	})
	mux.HandleFunc("GET /process", func(w http.ResponseWriter, _ *http.Request) {
		dir, _ := os.Getwd()
		fmt.Fprintf(w, "uid %d gid %d dir %s args %q\n", os.Getuid(), os.Getgid(), dir, os.Args[1:])
	})
	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() {
		deadline, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(deadline)
	})
	fmt.Printf("version %s listens on %s\n", os.Getenv("APP_VERSION"), server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
