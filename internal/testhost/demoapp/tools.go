package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tool is what tests run in the container, whose image has no shell.
func tool(args []string) (int, error) {
	switch args[0] {
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return 0, err
	case "exit":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
		code, err := strconv.Atoi(args[1])
		return code, err
	case "allocate": // so many MiB, and use them
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return 2, err
		}
		used := make([]byte, n<<20)
		for i := 0; i < len(used); i += os.Getpagesize() {
			used[i] = 1
		}
		fmt.Println("allocated", n, "MiB")
		runtime.KeepAlive(used)
		return 0, nil
	case "wait": // for a signal to end it
		fmt.Println("waiting")
		for { // the runtime takes an empty select for a deadlock
			time.Sleep(time.Hour)
		}
	case "terminal":
		return 0, terminal()
	}
	return 2, fmt.Errorf("no tool %q", args[0])
}

// terminal tells its size, each time that it changes, and what interrupts it.
func terminal() error {
	events := make(chan os.Signal, 8)
	signal.Notify(events, syscall.SIGWINCH, os.Interrupt)
	lines := make(chan string)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
		close(lines)
	}()
	size := func() {
		if w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
			fmt.Printf("size %dx%d\n", w.Col, w.Row)
		} else {
			fmt.Println("no terminal:", err)
		}
	}
	size()
	for {
		select {
		case s := <-events:
			if s == os.Interrupt {
				fmt.Println("interrupted, and going on")
				continue
			}
			size()
		case line, more := <-lines:
			if !more {
				return nil
			}
			fmt.Println("read", line)
		}
	}
}
