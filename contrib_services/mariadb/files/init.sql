ALTER USER 'root'@'localhost' ACCOUNT LOCK;
CREATE USER IF NOT EXISTS '${parameter:user}'@'%' IDENTIFIED BY '${parameter:password}';
ALTER USER '${parameter:user}'@'%' IDENTIFIED BY '${parameter:password}';
GRANT ALL PRIVILEGES ON *.* TO '${parameter:user}'@'%' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS `${parameter:database}`;
