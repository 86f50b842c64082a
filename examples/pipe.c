/* Screens the files named on the command line through `cxr-edge pipe`.
 *
 *     cc -o pipe pipe.c && ./pipe FILE...
 *
 * Prints each response line as it comes. A program of your own would hand it to its JSON parser.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        if ((unsigned char)*text < 0x20)
            fprintf(out, "\\u%04x", *text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

int main(int argc, char **argv)
{
    int request[2], response[2];
    if (pipe(request) || pipe(response)) {
        perror("pipe");
        return 1;
    }
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        return 1;
    }
    if (child == 0) {
        dup2(request[0], STDIN_FILENO);
        dup2(response[1], STDOUT_FILENO);
        close(request[0]), close(request[1]), close(response[0]), close(response[1]);
        execlp("cxr-edge", "cxr-edge", "pipe", "--force", (char *)NULL);
        perror("cxr-edge");
        _exit(127);
    }
    close(request[0]);
    close(response[1]);
    FILE *out = fdopen(request[1], "w"), *in = fdopen(response[0], "r");
    if (!out || !in) {
        perror("fdopen");
        return 1;
    }
    char *line = NULL;
    size_t capacity = 0;
    for (int i = 1; i < argc; i++) {
        /* One question, one answer: nothing can block that way. */
        fprintf(out, "{\"id\": %d, \"path\": ", i);
        write_string(out, argv[i]);
        fputs("}\n", out);
        fflush(out);
        if (getline(&line, &capacity, in) < 0)
            break;
        fputs(line, stdout);
    }
    fclose(out);
    fclose(in);
    free(line);
    int status = 1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
